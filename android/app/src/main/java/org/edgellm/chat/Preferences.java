package org.edgellm.chat;

import android.content.Context;
import android.content.SharedPreferences;

/** What the user chose, kept on the device. */
final class Preferences {
    private static final int TEMPERATURE_STEPS = 10;
    private final SharedPreferences kept;

    Preferences(Context context) {
        kept = context.getSharedPreferences("chat", Context.MODE_PRIVATE);
    }

    /** Negative: as the bundle says. */
    double temperature() {
        return kept.getInt("temperature", -1) / (double) TEMPERATURE_STEPS;
    }

    /** Tokens of an answer at most. */
    int length() {
        return kept.getInt("length", 512);
    }

    /** Tokens of a conversation; 0: as the bundle says, up to {@link ChatModel#USUAL_CONTEXT}. */
    long context() {
        return kept.getLong("context", 0);
    }

    String system() {
        return kept.getString("system", "");
    }

    void save(double temperature, int length, long context, String system) {
        kept.edit()
                .putInt("temperature", (int) Math.round(temperature * TEMPERATURE_STEPS))
                .putInt("length", length)
                .putLong("context", context)
                .putString("system", system.trim())
                .apply();
    }
}

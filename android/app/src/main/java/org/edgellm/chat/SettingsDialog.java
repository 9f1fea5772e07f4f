package org.edgellm.chat;

import android.app.AlertDialog;
import android.content.DialogInterface;
import android.view.View;
import android.widget.EditText;
import android.widget.SeekBar;
import android.widget.TextView;
import java.util.Locale;
import org.edgellm.android.PackagedModel;

/** The settings. Another context takes effect by opening the model anew. */
final class SettingsDialog {
    private static final int[] LENGTHS = {32, 64, 128, 256, 512, 1024, 2048, 4096};
    private static final int SMALLEST_CONTEXT = 256;

    private final ChatActivity activity;
    private final View view;
    private final SeekBar temperature;
    private final SeekBar length;
    private final SeekBar context;
    private final long largest;

    private SettingsDialog(ChatActivity activity, Preferences preferences, PackagedModel model) {
        this.activity = activity;
        largest = model.context;
        view = activity.getLayoutInflater().inflate(R.layout.settings, null);
        temperature = (SeekBar) view.findViewById(R.id.temperature);
        length = (SeekBar) view.findViewById(R.id.length);
        context = (SeekBar) view.findViewById(R.id.context);
        length.setMax(LENGTHS.length - 1);
        context.setMax(steps());
        temperature.setProgress((int) Math.round(Math.max(0, preferences.temperature()) * 10));
        if (preferences.temperature() < 0) temperature.setProgress(7);
        length.setProgress(indexOf(preferences.length()));
        long now = preferences.context() > 0 ? preferences.context() : ChatModel.USUAL_CONTEXT;
        for (int step = 0; step <= steps(); step++) {
            if (contextAt(step) <= now) context.setProgress(step);
        }
        ((EditText) view.findViewById(R.id.system)).setText(preferences.system());
        watch(temperature);
        watch(length);
        watch(context);
        describe();
    }

    static void show(final ChatActivity activity, final Preferences preferences, PackagedModel model) {
        final SettingsDialog dialog = new SettingsDialog(activity, preferences, model);
        final int before = dialog.context.getProgress();
        new AlertDialog.Builder(activity)
                .setTitle(R.string.settings)
                .setView(dialog.view)
                .setNegativeButton(R.string.cancel, null)
                .setPositiveButton(R.string.save, new DialogInterface.OnClickListener() {
                    @Override
                    public void onClick(DialogInterface which, int button) {
                        boolean other = dialog.context.getProgress() != before;
                        preferences.save(
                                dialog.temperature.getProgress() / 10.0,
                                LENGTHS[dialog.length.getProgress()],
                                other ? dialog.contextAt(dialog.context.getProgress()) : preferences.context(),
                                ((EditText) dialog.view.findViewById(R.id.system)).getText().toString());
                        if (other) activity.reopen();
                    }
                })
                .show();
    }

    private void watch(SeekBar bar) {
        bar.setOnSeekBarChangeListener(new SeekBar.OnSeekBarChangeListener() {
            @Override
            public void onProgressChanged(SeekBar changed, int value, boolean user) {
                describe();
            }

            @Override
            public void onStartTrackingTouch(SeekBar touched) {}

            @Override
            public void onStopTrackingTouch(SeekBar touched) {}
        });
    }

    private void describe() {
        String warmth = String.format(Locale.getDefault(), "%.1f", temperature.getProgress() / 10.0);
        ((TextView) view.findViewById(R.id.temperature_text))
                .setText(temperature.getProgress() == 0
                        ? activity.getString(R.string.temperature_zero)
                        : activity.getString(R.string.temperature, warmth));
        ((TextView) view.findViewById(R.id.length_text))
                .setText(activity.getString(R.string.length, LENGTHS[length.getProgress()]));
        ((TextView) view.findViewById(R.id.context_text))
                .setText(activity.getString(R.string.context, contextAt(context.getProgress())));
    }

    /** Doublings from the smallest context to the bundle's own. */
    private int steps() {
        int steps = 0;
        while ((long) SMALLEST_CONTEXT << steps < largest) steps++;
        return steps;
    }

    private long contextAt(int step) {
        return Math.min(largest, (long) SMALLEST_CONTEXT << step);
    }

    private static int indexOf(int length) {
        int index = 0;
        while (index < LENGTHS.length - 1 && LENGTHS[index] < length) index++;
        return index;
    }
}

package org.edgellm.chat;

import android.app.Activity;
import android.content.ClipData;
import android.content.ClipboardManager;
import android.content.Context;
import android.view.Gravity;
import android.view.View;
import android.widget.LinearLayout;
import android.widget.ScrollView;
import android.widget.TextView;
import android.widget.Toast;

/** The messages on the screen. A long touch copies one. */
final class Bubbles {
    private static final int WAITING_DOTS = 0x2026;
    private final Activity activity;
    private final LinearLayout messages;
    private final ScrollView scroll;
    private final StringBuilder text = new StringBuilder();
    private TextView theirs;

    Bubbles(Activity activity) {
        this.activity = activity;
        messages = (LinearLayout) activity.findViewById(R.id.messages);
        scroll = (ScrollView) activity.findViewById(R.id.scroll);
    }

    void clear() {
        messages.removeAllViews();
        theirs = null;
    }

    void addMine(String message) {
        add(message, true);
        toEnd();
    }

    void beginTheirs() {
        text.setLength(0);
        theirs = add(new String(Character.toChars(WAITING_DOTS)), false);
        toEnd();
    }

    void append(String piece) {
        if (theirs == null) return; // the conversation was left meanwhile
        boolean follow = isAtEnd();
        text.append(piece);
        theirs.setText(text);
        if (follow) toEnd();
    }

    void endTheirs() {
        if (theirs != null && text.length() == 0) messages.removeView(theirs);
        theirs = null;
    }

    private TextView add(String message, boolean mine) {
        final TextView view = new TextView(activity);
        view.setText(message);
        view.setTextSize(16);
        view.setLineSpacing(0, 1.15f);
        view.setTextColor(activity.getColor(mine ? R.color.on_mine : R.color.text));
        view.setBackgroundResource(mine ? R.drawable.mine : R.drawable.theirs);
        view.setPadding(dp(16), dp(10), dp(16), dp(10));
        view.setOnLongClickListener(new View.OnLongClickListener() {
            @Override
            public boolean onLongClick(View touched) {
                ClipboardManager board = (ClipboardManager) activity.getSystemService(Context.CLIPBOARD_SERVICE);
                board.setPrimaryClip(ClipData.newPlainText("message", view.getText()));
                Toast.makeText(activity, R.string.copied, Toast.LENGTH_SHORT).show();
                return true;
            }
        });
        LinearLayout.LayoutParams place = new LinearLayout.LayoutParams(
                LinearLayout.LayoutParams.WRAP_CONTENT, LinearLayout.LayoutParams.WRAP_CONTENT);
        place.gravity = mine ? Gravity.END : Gravity.START;
        place.topMargin = dp(6);
        place.bottomMargin = dp(6);
        place.setMarginStart(mine ? dp(48) : 0);
        place.setMarginEnd(mine ? 0 : dp(48));
        messages.addView(view, place);
        return view;
    }

    private boolean isAtEnd() {
        return messages.getHeight() <= scroll.getScrollY() + scroll.getHeight() + dp(48);
    }

    private void toEnd() {
        scroll.post(new Runnable() {
            @Override
            public void run() {
                scroll.scrollTo(0, messages.getHeight());
            }
        });
    }

    private int dp(int size) {
        return Math.round(size * activity.getResources().getDisplayMetrics().density);
    }
}

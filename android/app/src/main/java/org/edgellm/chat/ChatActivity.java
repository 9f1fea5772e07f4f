package org.edgellm.chat;

import android.app.Activity;
import android.app.AlertDialog;
import android.content.DialogInterface;
import android.os.Bundle;
import android.view.KeyEvent;
import android.view.View;
import android.view.WindowManager;
import android.widget.Button;
import android.widget.EditText;
import android.widget.ImageButton;
import android.widget.ProgressBar;
import android.widget.TextView;
import java.util.Locale;
import org.edgellm.Memory;
import org.edgellm.Usage;
import org.edgellm.android.PackagedModel;

/** A conversation with the model that this app was packaged with. */
public final class ChatActivity extends Activity implements ChatModel.Listener {
    private static final int PARTS = 1000;

    private Preferences preferences;
    private ChatModel model;
    private Bubbles bubbles;
    private TextView title;
    private TextView status;
    private ProgressBar progress;
    private View notice;
    private TextView noticeTitle;
    private TextView noticeText;
    private Button noticeButton;
    private EditText input;
    private ImageButton send;
    private PackagedModel packaged;
    private String ready = "";
    private boolean answering;

    @Override
    protected void onCreate(Bundle state) {
        super.onCreate(state);
        setContentView(R.layout.chat);
        title = (TextView) findViewById(R.id.title);
        status = (TextView) findViewById(R.id.status);
        progress = (ProgressBar) findViewById(R.id.progress);
        notice = findViewById(R.id.notice);
        noticeTitle = (TextView) findViewById(R.id.notice_title);
        noticeText = (TextView) findViewById(R.id.notice_text);
        noticeButton = (Button) findViewById(R.id.notice_button);
        input = (EditText) findViewById(R.id.input);
        send = (ImageButton) findViewById(R.id.send);
        bubbles = new Bubbles(this);
        send.setOnClickListener(new View.OnClickListener() {
            @Override
            public void onClick(View view) {
                if (answering) model.stop();
                else send();
            }
        });
        input.setOnKeyListener(new View.OnKeyListener() {
            @Override
            public boolean onKey(View view, int code, KeyEvent event) {
                // A real keyboard: Enter sends, with Shift it is a new line.
                boolean enter = code == KeyEvent.KEYCODE_ENTER && !event.isShiftPressed();
                if (enter && event.getAction() == KeyEvent.ACTION_DOWN && !answering) send();
                return enter;
            }
        });
        findViewById(R.id.fresh).setOnClickListener(new View.OnClickListener() {
            @Override
            public void onClick(View view) {
                model.fresh();
                bubbles.clear();
                if (packaged != null) showNotice(packaged.name, getString(R.string.welcome), null);
            }
        });
        findViewById(R.id.settings).setOnClickListener(new View.OnClickListener() {
            @Override
            public void onClick(View view) {
                if (packaged != null) SettingsDialog.show(ChatActivity.this, preferences, packaged);
            }
        });
        preferences = new Preferences(this);
        start();
    }

    @Override
    protected void onDestroy() {
        model.close();
        super.onDestroy();
    }

    private void start() {
        if (model != null) model.close();
        model = new ChatModel(this, preferences, this);
        setAnswering(false); // a model that is closed tells of no end
        setReady(false);
        showNotice(getString(R.string.preparing), getString(R.string.welcome), null);
        status.setText(R.string.preparing);
        model.prepare(false, false);
    }

    private void send() {
        String text = input.getText().toString().trim();
        if (text.isEmpty() || !input.isEnabled()) return;
        input.setText("");
        notice.setVisibility(View.GONE);
        bubbles.addMine(text);
        bubbles.beginTheirs();
        setAnswering(true);
        model.send(text);
    }

    @Override
    public void onFound(PackagedModel found) {
        packaged = found;
    }

    @Override
    public void onProgress(PackagedModel.Weights weights, long done, long bytes) {
        int text = R.string.copying;
        if (weights == PackagedModel.Weights.DOWNLOAD) text = R.string.downloading;
        if (weights == PackagedModel.Weights.PUSH) text = R.string.checking;
        int part = (int) (done * PARTS / Math.max(1, bytes));
        progress.setVisibility(View.VISIBLE);
        progress.setIndeterminate(false);
        progress.setProgress(part);
        status.setText(getString(text, part * 100 / PARTS));
    }

    @Override
    public void onOpening() {
        progress.setVisibility(View.VISIBLE);
        progress.setIndeterminate(true);
        status.setText(R.string.opening);
    }

    @Override
    public void onQuestion(ChatModel.Question question, Memory memory) {
        final boolean tight = question == ChatModel.Question.TIGHT_MEMORY;
        String text = tight
                ? getString(R.string.tight_text, memory)
                : getString(R.string.download_text, (packaged.files.bytes + 999999) / 1000000);
        new AlertDialog.Builder(this)
                .setTitle(tight ? R.string.tight_title : R.string.download_title)
                .setMessage(text)
                .setCancelable(false)
                .setPositiveButton(tight ? R.string.load : R.string.download, new DialogInterface.OnClickListener() {
                    @Override
                    public void onClick(DialogInterface dialog, int which) {
                        model.prepare(true, tight);
                    }
                })
                .setNegativeButton(R.string.not_now, new DialogInterface.OnClickListener() {
                    @Override
                    public void onClick(DialogInterface dialog, int which) {
                        finish();
                    }
                })
                .show();
    }

    @Override
    public void onTooLarge(Memory memory) {
        onFailed(getString(R.string.too_large, memory));
    }

    @Override
    public void onReady(String device) {
        ready = getString(R.string.ready, packaged.name, device);
        title.setText(R.string.app_name);
        status.setText(ready);
        progress.setVisibility(View.INVISIBLE);
        setReady(true);
        showNotice(packaged.name, getString(R.string.welcome), null);
    }

    @Override
    public void onFailed(String why) {
        progress.setVisibility(View.INVISIBLE);
        status.setText(R.string.failed);
        showNotice(getString(R.string.failed), why, new View.OnClickListener() {
            @Override
            public void onClick(View view) {
                start();
            }
        });
    }

    @Override
    public void onPiece(String piece) {
        bubbles.append(piece);
    }

    @Override
    public void onEnd(Usage usage, double seconds) {
        setAnswering(false);
        bubbles.endTheirs();
        if (usage == null) {
            status.setText(R.string.failed);
            return;
        }
        String speed = String.format(Locale.getDefault(), "%.1f", usage.answerTokens / Math.max(seconds, 0.001));
        String said = getString(R.string.spoke, usage.answerTokens, speed);
        status.setText(usage.reason == Usage.Reason.LENGTH ? getString(R.string.cut, said) : said);
    }

    /** Called when other settings need the model anew. */
    void reopen() {
        bubbles.clear();
        start();
    }

    private void setReady(boolean is) {
        input.setEnabled(is);
        send.setEnabled(is);
        send.setAlpha(is ? 1f : 0.4f);
    }

    private void setAnswering(boolean is) {
        answering = is;
        send.setImageResource(is ? R.drawable.ic_stop : R.drawable.ic_send);
        send.setContentDescription(getString(is ? R.string.stop : R.string.send));
        if (is) {
            status.setText(ready);
            getWindow().addFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON);
        } else {
            getWindow().clearFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON);
        }
    }

    private void showNotice(String heading, String text, View.OnClickListener again) {
        notice.setVisibility(View.VISIBLE);
        noticeTitle.setText(heading);
        noticeTitle.setTextColor(getColor(again == null ? R.color.text : R.color.wrong));
        noticeText.setText(text);
        noticeButton.setVisibility(again == null ? View.GONE : View.VISIBLE);
        noticeButton.setText(R.string.again);
        noticeButton.setOnClickListener(again);
    }
}

package org.edgellm.chat;

import android.content.Context;
import android.os.Handler;
import android.os.Looper;
import android.util.Log;
import java.io.File;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import org.edgellm.BundleStore;
import org.edgellm.Engine;
import org.edgellm.Memory;
import org.edgellm.Message;
import org.edgellm.Options;
import org.edgellm.Request;
import org.edgellm.Settings;
import org.edgellm.Usage;
import org.edgellm.android.PackagedModel;

/** The model and the conversation, on a thread of their own. What it tells arrives on the main thread. */
final class ChatModel {
    /** Tokens of a conversation when nothing else was chosen: more takes more memory. */
    static final long USUAL_CONTEXT = 4096;

    private static final String TAG = "edgellm";
    /** One for all: a model is closed before the next one is opened, so that two never take memory together. */
    private static final ExecutorService WORKER = Executors.newSingleThreadExecutor();

    /** What needs the user's word. */
    enum Question {
        DOWNLOAD,
        TIGHT_MEMORY
    }

    /** Called on the main thread. */
    interface Listener {
        /** Before anything is loaded: this is what the app was packaged with. */
        void onFound(PackagedModel model);

        void onProgress(PackagedModel.Weights weights, long done, long bytes);

        void onOpening();

        void onQuestion(Question question, Memory memory);

        void onTooLarge(Memory memory);

        void onReady(String device);

        void onFailed(String why);

        void onPiece(String piece);

        /** {@code usage} is null where it failed. */
        void onEnd(Usage usage, double seconds);
    }

    private final Context context;
    private final Preferences preferences;
    private final Listener listener;
    private final Handler main = new Handler(Looper.getMainLooper());
    /** Only the worker uses these. */
    private final List<Message> turns = new ArrayList<Message>();
    private PackagedModel model;
    private Engine engine;
    /** What the main thread and the worker tell each other. */
    private volatile Request current;
    private volatile boolean stopped;
    private volatile boolean closed;
    private long told;

    ChatModel(Context context, Preferences preferences, Listener listener) {
        this.context = context.getApplicationContext();
        this.preferences = preferences;
        this.listener = listener;
    }

    /**
     * Bring the model here and open it.
     *
     * @param download whether the user has agreed to a download
     * @param tight whether the user has agreed to little memory
     */
    void prepare(final boolean download, final boolean tight) {
        work(new Step() {
            @Override
            void run() throws IOException {
                open(download, tight);
            }

            @Override
            void failed(String why) {
                listener.onFailed(why);
            }
        });
    }

    /** Answer what the user writes. */
    void send(final String text) {
        stopped = false;
        work(new Step() {
            @Override
            void run() throws IOException {
                answer(text);
            }

            @Override
            void failed(String why) {
                listener.onPiece(why);
                listener.onEnd(null, 0);
            }
        });
    }

    void stop() {
        stopped = true;
        Request request = current;
        if (request != null) request.cancel();
    }

    /** Forget the conversation. */
    void fresh() {
        stop();
        work(new Step() {
            @Override
            void run() {
                turns.clear();
            }
        });
    }

    void close() {
        closed = true;
        stop();
        WORKER.execute(new Runnable() {
            @Override
            public void run() {
                if (engine != null) engine.close();
                engine = null;
            }
        });
    }

    private void open(boolean download, boolean tight) throws IOException {
        if (engine != null) return;
        if (model == null) {
            model = new PackagedModel(context);
            tell(new Runnable() {
                @Override
                public void run() {
                    listener.onFound(model);
                }
            });
        }
        Options options = new Options();
        options.context = contextOf(model);
        final Memory memory = model.memory(options.context, options.batch);
        if (memory.verdict == Memory.Verdict.TOO_LARGE) {
            tell(new Runnable() {
                @Override
                public void run() {
                    listener.onTooLarge(memory);
                }
            });
            return;
        }
        if (!download && model.weights == PackagedModel.Weights.DOWNLOAD && !model.isHere()) {
            ask(Question.DOWNLOAD, memory);
            return;
        }
        if (!tight && memory.verdict == Memory.Verdict.TIGHT) {
            ask(Question.TIGHT_MEMORY, memory);
            return;
        }
        File bundle = model.install(new BundleStore.Task() {
            @Override
            public void progress(long done, long bytes) {
                tellProgress(done, bytes);
            }

            @Override
            public void check() throws IOException {
                if (closed) throw new IOException("closed");
            }
        });
        tell(new Runnable() {
            @Override
            public void run() {
                listener.onOpening();
            }
        });
        engine = model.open(bundle, options);
        final String device = engine.info().device;
        tell(new Runnable() {
            @Override
            public void run() {
                listener.onReady(device);
            }
        });
    }

    private long contextOf(PackagedModel model) {
        long chosen = preferences.context() > 0 ? preferences.context() : USUAL_CONTEXT;
        return Math.min(chosen, model.context);
    }

    private void answer(String text) throws IOException {
        turns.add(Message.user(text));
        Settings settings = engine.defaults();
        settings.maxTokens = preferences.length();
        if (preferences.temperature() >= 0) settings.temperature = preferences.temperature();
        long start = System.nanoTime();
        StringBuilder answer = new StringBuilder();
        Request request;
        try {
            request = engine.submit(prompt(settings), settings);
        } catch (IOException error) {
            turns.remove(turns.size() - 1);
            throw error;
        }
        try {
            current = request;
            if (stopped) request.cancel();
            for (String piece = request.next(); piece != null; piece = request.next()) {
                answer.append(piece);
                tellPiece(piece);
            }
        } finally {
            current = null;
            request.close();
            // Turns go by twos: what could not be answered is not asked again.
            if (answer.length() > 0) turns.add(Message.assistant(answer.toString()));
            else turns.remove(turns.size() - 1);
        }
        final Usage usage = request.usage();
        final double seconds = (System.nanoTime() - start) / 1e9;
        tell(new Runnable() {
            @Override
            public void run() {
                listener.onEnd(usage, seconds);
            }
        });
    }

    /** The conversation's ids. Its oldest turns are left out as far as it would not fit with room for an answer. */
    private int[] prompt(Settings settings) throws IOException {
        long room = engine.info().context - Math.min(settings.maxTokens, engine.info().context / 4);
        while (true) {
            List<Message> messages = new ArrayList<Message>();
            if (!preferences.system().isEmpty()) messages.add(Message.system(preferences.system()));
            messages.addAll(turns);
            int[] ids = engine.tokenize(messages);
            if (ids.length <= room || turns.size() < 3) return ids;
            turns.remove(0);
            turns.remove(0);
        }
    }

    /** One thing that the worker does. */
    private abstract static class Step {
        abstract void run() throws IOException;

        /** On the main thread. */
        void failed(String why) {}
    }

    private void work(final Step step) {
        WORKER.execute(new Runnable() {
            @Override
            public void run() {
                if (closed) return;
                try {
                    step.run();
                } catch (final IOException error) {
                    Log.w(TAG, error);
                    tell(new Runnable() {
                        @Override
                        public void run() {
                            String why = error.getMessage();
                            step.failed(why == null ? error.toString() : why);
                        }
                    });
                }
            }
        });
    }

    private void tell(final Runnable what) {
        main.post(new Runnable() {
            @Override
            public void run() {
                if (!closed) what.run();
            }
        });
    }

    private void ask(final Question question, final Memory memory) {
        tell(new Runnable() {
            @Override
            public void run() {
                listener.onQuestion(question, memory);
            }
        });
    }

    private void tellPiece(final String piece) {
        tell(new Runnable() {
            @Override
            public void run() {
                listener.onPiece(piece);
            }
        });
    }

    /** At most once for each of a thousand parts. */
    private void tellProgress(final long done, final long bytes) {
        long part = done * 1000 / Math.max(1, bytes);
        if (part == told) return;
        told = part;
        tell(new Runnable() {
            @Override
            public void run() {
                listener.onProgress(model.weights, done, bytes);
            }
        });
    }
}

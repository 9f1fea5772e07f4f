package org.edgellm;

import java.io.Closeable;
import java.nio.charset.StandardCharsets;

/**
 * One answer being made. One thread takes its text with {@link #next}; any thread may {@link #cancel} or
 * {@link #close} it meanwhile.
 */
public final class Request implements Closeable {
    private final Engine engine;
    /** Held while the library works on the request, which may be long. */
    private final Object working = new Object();
    /** Held while {@link #handle} is used or changed, which is always short. Taken after {@link #working}. */
    private final Object guard = new Object();
    private long handle;
    private Usage last;
    private int[] lastIds = new int[0];

    Request(Engine engine, long handle) {
        this.engine = engine;
        this.handle = handle;
    }

    /** Wait for more of the answer: one or more whole characters; null when it has ended. */
    public String next() throws EngineException {
        synchronized (working) {
            long request;
            synchronized (guard) {
                request = handle;
            }
            // Only close() sets it to 0, and it waits for `working` first.
            if (request == 0) return null;
            byte[] text = Native.next(request);
            return text == null ? null : new String(text, StandardCharsets.UTF_8);
        }
    }

    /** Wait for the whole answer. */
    public String text() throws EngineException {
        StringBuilder text = new StringBuilder();
        for (String piece = next(); piece != null; piece = next()) text.append(piece);
        return text.toString();
    }

    /** End the answer soon: {@link #next} gives what there is, and then null. */
    public void cancel() {
        synchronized (guard) {
            if (handle != 0) Native.cancel(handle);
        }
    }

    /** What it took so far, or in all once it has been closed. */
    public Usage usage() {
        synchronized (guard) {
            return handle == 0 ? last : new Usage(Native.usage(handle));
        }
    }

    /** Token ids of the answer so far. */
    public int[] ids() {
        synchronized (guard) {
            return handle == 0 ? lastIds.clone() : Native.answerIds(handle);
        }
    }

    /** Cancel and forget it. */
    @Override
    public void close() {
        cancel();
        synchronized (working) {
            synchronized (guard) {
                if (handle == 0) return;
                last = new Usage(Native.usage(handle));
                lastIds = Native.answerIds(handle);
                Native.free(handle);
                handle = 0;
            }
        }
        engine.forget(this);
    }
}

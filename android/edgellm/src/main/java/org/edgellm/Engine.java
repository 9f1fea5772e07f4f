package org.edgellm;

import java.io.Closeable;
import java.io.File;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.locks.ReadWriteLock;
import java.util.concurrent.locks.ReentrantReadWriteLock;

/**
 * A bundle on a device. Any threads may use it; several answers are made at the same time where
 * {@link Options#batch} is greater than 1. Opening and closing take seconds: not for the main thread.
 */
public final class Engine implements Closeable {
    /** Read: the engine is used and stays open. Write: it is closed. */
    private final ReadWriteLock use = new ReentrantReadWriteLock();
    private final Set<Request> requests = new HashSet<Request>();
    private final Info info;
    private long handle;

    private Engine(long handle) {
        this.handle = handle;
        long[] numbers = new long[5];
        byte[] device = Native.info(handle, numbers);
        info = new Info(new String(device, StandardCharsets.UTF_8), numbers);
    }

    /** Open the bundle in a directory: its files are checked, its weights handed to the device, its kernels made. */
    public static Engine open(File bundle, Options options) throws EngineException {
        long[] numbers = {options.context, options.batch, options.memory, options.checkHashes ? 1 : 0};
        try {
            return new Engine(
                    Native.open(
                            utf8(bundle.getPath()),
                            options.device == null ? null : utf8(options.device),
                            options.chat == null ? null : utf8(options.chat.getPath()),
                            options.cache == null ? null : utf8(options.cache.getPath()),
                            numbers));
        } catch (LinkageError error) {
            throw new EngineException(
                    "the native library of edgellm cannot be loaded: the app needs libedgellm.so for this"
                            + " processor (64-bit Arm)",
                    error);
        }
    }

    public Info info() {
        return info;
    }

    /** The bundle's own settings, to change and use. */
    public Settings defaults() throws EngineException {
        double[] reals = new double[4];
        long[] whole = new long[4];
        use.readLock().lock();
        try {
            Native.defaults(opened(), reals, whole);
        } finally {
            use.readLock().unlock();
        }
        return new Settings(reals, whole);
    }

    /** Token ids of a conversation that ends where the answer begins. */
    public int[] tokenize(List<Message> messages) throws EngineException {
        byte[][] roles = new byte[messages.size()][];
        byte[][] texts = new byte[messages.size()][];
        for (int i = 0; i < roles.length; i++) {
            roles[i] = utf8(messages.get(i).role);
            texts[i] = utf8(messages.get(i).text);
        }
        use.readLock().lock();
        try {
            return Native.chat(opened(), roles, texts);
        } finally {
            use.readLock().unlock();
        }
    }

    /** Token ids of a text, with what the model's own tokenizer puts around it. */
    public int[] tokenize(String text) throws EngineException {
        use.readLock().lock();
        try {
            return Native.tokenize(opened(), utf8(text), true);
        } finally {
            use.readLock().unlock();
        }
    }

    /** Answer a conversation. */
    public Request answer(List<Message> messages, Settings settings) throws EngineException {
        return submit(tokenize(messages), settings);
    }

    /** Go on with a text. */
    public Request complete(String text, Settings settings) throws EngineException {
        return submit(tokenize(text), settings);
    }

    /** Queue a prompt of token ids. */
    public Request submit(int[] ids, Settings settings) throws EngineException {
        byte[][] stops = new byte[settings.stops.size()][];
        for (int i = 0; i < stops.length; i++) stops[i] = utf8(settings.stops.get(i));
        use.readLock().lock();
        try {
            Request request =
                    new Request(this, Native.submit(opened(), ids, settings.reals(), settings.whole(), stops));
            synchronized (requests) {
                requests.add(request);
            }
            return request;
        } finally {
            use.readLock().unlock();
        }
    }

    /** Cancel all requests and give everything back. */
    @Override
    public void close() {
        use.writeLock().lock();
        try {
            List<Request> open;
            synchronized (requests) {
                open = new ArrayList<Request>(requests);
            }
            for (Request request : open) request.cancel();
            for (Request request : open) request.close();
            if (handle != 0) Native.close(handle);
            handle = 0;
        } finally {
            use.writeLock().unlock();
        }
    }

    void forget(Request request) {
        synchronized (requests) {
            requests.remove(request);
        }
    }

    private long opened() throws EngineException {
        if (handle == 0) throw new EngineException("the engine has been closed; open it again");
        return handle;
    }

    private static byte[] utf8(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }
}

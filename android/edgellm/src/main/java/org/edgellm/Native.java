package org.edgellm;

/** The functions of edgellm.h. Texts are UTF-8, handles are pointers; who calls them sees that they are open. */
final class Native {
    static {
        System.loadLibrary("edgellm");
    }

    private Native() {}

    static native long open(byte[] bundle, byte[] device, byte[] chat, byte[] cache, long[] numbers)
            throws EngineException;

    static native void close(long engine);

    /** Fills context, batch, blocks, vocabulary and whether there is a chat format; returns the device's name. */
    static native byte[] info(long engine, long[] numbers);

    static native int[] tokenize(long engine, byte[] text, boolean surround) throws EngineException;

    static native int[] chat(long engine, byte[][] roles, byte[][] texts) throws EngineException;

    /** Fills the numbers in the order of {@link Settings}. */
    static native void defaults(long engine, double[] reals, long[] whole);

    static native long submit(long engine, int[] ids, double[] reals, long[] whole, byte[][] stops)
            throws EngineException;

    /** The next piece of the answer; null: it has ended. */
    static native byte[] next(long request) throws EngineException;

    static native void cancel(long request);

    /** Tokens of the prompt, of the answer, of the prompt that were not computed anew; the reason of the end. */
    static native long[] usage(long request);

    static native int[] answerIds(long request);

    static native void free(long request);
}

package org.edgellm;

/** What an answer took, and why it ended. */
public final class Usage {
    /** In the order of enum ell_reason. */
    public enum Reason {
        /** It has not ended. */
        RUNNING,
        /** An end token or a stop text came. */
        STOP,
        /** It has as many tokens as it may have. */
        LENGTH,
        CANCELLED,
        FAILED
    }

    public final long promptTokens;
    public final long answerTokens;
    /** Tokens of the prompt that an earlier request had computed already. */
    public final long cachedTokens;
    public final Reason reason;

    Usage(long[] numbers) {
        promptTokens = numbers[0];
        answerTokens = numbers[1];
        cachedTokens = numbers[2];
        reason = Reason.values()[(int) numbers[3]];
    }
}

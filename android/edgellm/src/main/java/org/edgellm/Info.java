package org.edgellm;

/** What an engine runs on and holds. */
public final class Info {
    /** Name of the device. */
    public final String device;
    /** Tokens of one conversation. */
    public final long context;
    /** Answers that are made at the same time. */
    public final long batch;
    /** Room for 16 tokens each, shared by all conversations. */
    public final long blocks;
    public final long vocabulary;
    /** Whether the bundle knows conversations; without it only {@link Engine#complete} works. */
    public final boolean chat;

    Info(String device, long[] numbers) {
        this.device = device;
        context = numbers[0];
        batch = numbers[1];
        blocks = numbers[2];
        vocabulary = numbers[3];
        chat = numbers[4] != 0;
    }
}

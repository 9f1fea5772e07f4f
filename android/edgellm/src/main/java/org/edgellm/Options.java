package org.edgellm;

import java.io.File;

/** How to open a bundle; as made it is good. */
public final class Options {
    /** Number or part of the name of an OpenCL device; null: the first GPU. */
    public String device;
    /** Tokens of one conversation, prompt and answer together; 0: as the bundle says. */
    public long context;
    /** Answers that are made at the same time; 0: 4. */
    public long batch = 1;
    /** Bytes that weights, cache and buffers may take; 0: what the device has. */
    public long memory;
    /** Whether to hash large files too, about a second a gigabyte. */
    public boolean checkHashes;
    /** The chat format that edgellm package wrote; null: chat.json beside the bundle, if it is there. */
    public File chat;
    /** Existing directory for compiled kernels; null: they are compiled at each opening. */
    public File cache;
}

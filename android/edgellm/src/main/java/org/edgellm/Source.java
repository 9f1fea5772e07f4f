package org.edgellm;

import java.io.IOException;
import java.io.InputStream;

/** Where a bundle's files come from. What it gives is compared with {@link BundleFiles}. */
public interface Source {
    /**
     * A file's bytes from `start` on, if it can skip what comes before, or from 0 on.
     *
     * @throws EngineException it can never be had from here; another IOException: it may be had later.
     */
    Stream open(String path, long start) throws IOException;

    /** Bytes of a file. */
    final class Stream {
        final InputStream bytes;
        final long start;

        public Stream(InputStream bytes, long start) {
            this.bytes = bytes;
            this.start = start;
        }
    }
}

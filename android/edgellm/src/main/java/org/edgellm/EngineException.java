package org.edgellm;

import java.io.IOException;
import java.nio.charset.StandardCharsets;

/** Why something failed: what happened, to which file or option, and what to do. */
public final class EngineException extends IOException {
    private static final long serialVersionUID = 1;

    public EngineException(String message) {
        super(message);
    }

    public EngineException(String message, Throwable cause) {
        super(message, cause);
    }

    /** Called by the native library. */
    EngineException(byte[] utf8) {
        super(new String(utf8, StandardCharsets.UTF_8));
    }
}

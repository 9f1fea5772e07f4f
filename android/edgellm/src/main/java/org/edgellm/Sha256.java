package org.edgellm;

import java.io.File;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;

/** A hash as it is computed. */
final class Sha256 {
    static final int CHUNK_BYTES = 1 << 16;
    private final MessageDigest digest;

    Sha256() {
        try {
            digest = MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException error) {
            throw new AssertionError(error); // every Java has it
        }
    }

    void update(byte[] data, int size) {
        digest.update(data, 0, size);
    }

    /** Take a whole file, while `task` goes on. */
    void update(File file, BundleStore.Task task) throws IOException {
        byte[] chunk = new byte[CHUNK_BYTES];
        InputStream stream = new FileInputStream(file);
        try {
            for (int size = stream.read(chunk); size >= 0; size = stream.read(chunk)) {
                digest.update(chunk, 0, size);
                task.check();
            }
        } finally {
            stream.close();
        }
    }

    String hex() {
        StringBuilder text = new StringBuilder();
        for (byte one : digest.digest()) {
            text.append(Character.forDigit(one >> 4 & 15, 16)).append(Character.forDigit(one & 15, 16));
        }
        return text.toString();
    }
}

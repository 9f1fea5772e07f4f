package org.edgellm;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * The files of a bundle with their hashes, as edgellm package wrote them into the app: one a line, as SHA-256,
 * bytes and path. It is part of the app, so what comes from elsewhere is compared with it.
 */
public final class BundleFiles {
    private static final int MAX_FILES = 10001;
    private static final int MAX_LINE = 400;
    // A path has parts that neither begin with a dot nor are empty: it cannot leave its directory.
    private static final String PART = "[A-Za-z0-9_][A-Za-z0-9._+-]*";
    private static final Pattern LINE =
            Pattern.compile("([0-9a-f]{64}) ([0-9]{1,15}) (" + PART + "(?:/" + PART + ")*)");

    /** One file. */
    public static final class Entry {
        public final String path;
        public final long bytes;
        /** In lower-case hexadecimal. */
        public final String sha256;

        Entry(String path, long bytes, String sha256) {
            this.path = path;
            this.bytes = bytes;
            this.sha256 = sha256;
        }
    }

    public final List<Entry> entries;
    public final long bytes;

    private BundleFiles(List<Entry> entries) {
        this.entries = Collections.unmodifiableList(entries);
        long sum = 0;
        for (Entry entry : entries) sum += entry.bytes;
        bytes = sum;
    }

    /** Read a list, and close it. */
    public static BundleFiles read(InputStream stream) throws IOException {
        BufferedReader lines = new BufferedReader(new InputStreamReader(stream, StandardCharsets.UTF_8));
        try {
            List<Entry> entries = new ArrayList<Entry>();
            Set<String> paths = new HashSet<String>();
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                Matcher found = LINE.matcher(line);
                if (line.length() > MAX_LINE || !found.matches() || entries.size() == MAX_FILES) {
                    throw new EngineException("the app's list of the model's files is damaged; install the app again");
                }
                if (!paths.add(found.group(3))) {
                    throw new EngineException("the app lists " + found.group(3) + " twice; install the app again");
                }
                entries.add(new Entry(found.group(3), Long.parseLong(found.group(2)), found.group(1)));
            }
            if (entries.isEmpty()) throw new EngineException("the app lists no files of a model; package it again");
            return new BundleFiles(entries);
        } finally {
            lines.close();
        }
    }

    /** A short name that differs for bundles that differ. */
    public String key() {
        Sha256 digest = new Sha256();
        for (Entry entry : entries) {
            byte[] line = (entry.sha256 + " " + entry.path + "\n").getBytes(StandardCharsets.UTF_8);
            digest.update(line, line.length);
        }
        return digest.hex().substring(0, 16);
    }
}

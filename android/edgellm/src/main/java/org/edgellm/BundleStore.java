package org.edgellm;

import java.io.File;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;

/**
 * Bundles in a directory of the app, one folder each. A file there has the name of its path only once its hash has
 * been compared; until then it ends in `.part`, and a download goes on with it.
 */
public final class BundleStore {
    private static final String DONE = ".whole";
    private static final String PART = ".part";
    private static final long SPARE_BYTES = 64L << 20;
    private static final int TRIES = 5;
    private static final long WAIT_MS = 500;

    /** Progress of a task, and the wish to end it. Called from the thread that works. */
    public interface Task {
        void progress(long done, long bytes);

        /** Throws an exception to end the task. */
        void check() throws IOException;
    }

    private final File root;

    public BundleStore(File root) {
        this.root = root;
    }

    /** Where the bundle is, or will be. */
    public File place(BundleFiles files) {
        return new File(root, "bundle-" + files.key());
    }

    /** Whether all of the bundle is there; sizes are looked at, hashes were compared when it came. */
    public boolean has(BundleFiles files) {
        File place = place(files);
        if (!new File(place, DONE).isFile()) return false;
        for (BundleFiles.Entry entry : files.entries) {
            if (new File(place, entry.path).length() != entry.bytes) return false;
        }
        return true;
    }

    /**
     * Bring the bundle here, as far as it is not here yet, and remove other bundles.
     *
     * @return its directory
     */
    public File install(BundleFiles files, Source source, Task task) throws IOException {
        File place = place(files);
        if (has(files)) return place;
        removeOthers(files);
        make(place);
        long missing = 0;
        for (BundleFiles.Entry entry : files.entries) {
            missing += entry.bytes - Math.min(entry.bytes, held(new File(place, entry.path)));
        }
        if (missing > 0 && root.getUsableSpace() < missing + SPARE_BYTES) {
            throw new EngineException(
                    "the model needs " + megabytes(missing + SPARE_BYTES) + " and this device has "
                            + megabytes(root.getUsableSpace()) + " free; delete something and try again");
        }
        long done = 0;
        for (BundleFiles.Entry entry : files.entries) {
            File file = new File(place, entry.path);
            if (!isWhole(file, entry, task)) fetch(entry, file, source, task, done, files.bytes);
            done += entry.bytes;
            task.progress(done, files.bytes);
        }
        new FileOutputStream(new File(place, DONE)).close();
        return place;
    }

    /** Compare a bundle that something else put into a directory; the app keeps a note when it has been done. */
    public File accept(BundleFiles files, File place, Task task) throws IOException {
        File note = new File(root, "pushed-" + files.key());
        long done = 0;
        for (BundleFiles.Entry entry : files.entries) {
            File file = new File(place, entry.path);
            if (file.length() != entry.bytes) {
                throw new EngineException(
                        "the model is not on this device: " + file + " has " + file.length() + " bytes instead of "
                                + entry.bytes + "; run push-model.sh on the computer with the app's project");
            }
            if (!note.isFile() && !hashOf(file, task).equals(entry.sha256)) {
                throw new EngineException(file + " is damaged; run push-model.sh again");
            }
            done += entry.bytes;
            task.progress(done, files.bytes);
        }
        make(root);
        new FileOutputStream(note).close();
        return place;
    }

    private static long held(File file) {
        return file.isFile() ? file.length() : new File(file.getPath() + PART).length();
    }

    /** Whether a file is here from an earlier try. Its hash was compared before it got its name. */
    private static boolean isWhole(File file, BundleFiles.Entry entry, Task task) throws IOException {
        if (file.length() == entry.bytes && file.isFile()) return true;
        if (file.exists() && !file.delete()) throw new EngineException(file + " cannot be replaced");
        task.check();
        return false;
    }

    private static void fetch(
            BundleFiles.Entry entry, File file, Source source, Task task, long done, long total) throws IOException {
        make(file.getParentFile());
        File part = new File(file.getPath() + PART);
        for (int tried = 1; ; tried++) {
            long before = part.length();
            try {
                read(entry, part, source, task, done, total);
            } catch (EngineException error) {
                throw error;
            } catch (IOException error) {
                task.check();
                // What did come counts as a success: only tries without any are counted.
                if (part.length() > before) tried = 0;
                if (tried >= TRIES) throw error;
                pause(tried);
                continue;
            }
            if (hashOf(part, task).equals(entry.sha256)) {
                if (!part.renameTo(file)) throw new EngineException(file + " cannot be written");
                return;
            }
            if (!part.delete()) throw new EngineException(part + " cannot be removed");
            // What an earlier try had left may have been damaged; whole and from here it should have been right.
            if (before == 0) {
                throw new EngineException(
                        entry.path + " of the model is another file than this app was made for; package the app again, "
                                + "or put that bundle where the app looks");
            }
        }
    }

    /** Append what is missing. */
    private static void read(
            BundleFiles.Entry entry, File part, Source source, Task task, long done, long total) throws IOException {
        if (part.length() > entry.bytes && !part.delete()) throw new EngineException(part + " cannot be removed");
        if (part.length() == entry.bytes && entry.bytes > 0) return;
        Source.Stream stream = source.open(entry.path, part.length());
        InputStream bytes = stream.bytes;
        try {
            FileOutputStream out = new FileOutputStream(part, stream.start > 0);
            try {
                long size = stream.start;
                byte[] chunk = new byte[Sha256.CHUNK_BYTES];
                while (size < entry.bytes) {
                    task.check();
                    int count = bytes.read(chunk, 0, (int) Math.min(chunk.length, entry.bytes - size));
                    if (count < 0) throw new IOException(entry.path + " ended early");
                    out.write(chunk, 0, count);
                    size += count;
                    task.progress(done + size, total);
                }
                out.getFD().sync();
            } finally {
                out.close();
            }
        } finally {
            bytes.close();
        }
    }

    private static String hashOf(File file, Task task) throws IOException {
        Sha256 digest = new Sha256();
        digest.update(file, task);
        return digest.hex();
    }

    private void removeOthers(BundleFiles files) {
        String own = place(files).getName();
        File[] found = root.listFiles();
        if (found == null) return;
        for (File file : found) {
            if (file.getName().startsWith("bundle-") && !file.getName().equals(own)) remove(file);
        }
    }

    private static void remove(File file) {
        File[] inside = file.listFiles();
        if (inside != null) {
            for (File one : inside) remove(one);
        }
        file.delete(); // what stays is in nobody's way
    }

    private static void make(File folder) throws EngineException {
        if (!folder.isDirectory() && !folder.mkdirs() && !folder.isDirectory()) {
            throw new EngineException("the directory " + folder + " cannot be made");
        }
    }

    private static void pause(int tried) throws IOException {
        try {
            Thread.sleep(WAIT_MS << tried);
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
            throw new IOException("interrupted");
        }
    }

    private static String megabytes(long bytes) {
        return (bytes + 999999) / 1000000 + " MB";
    }
}

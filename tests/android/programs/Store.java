import java.io.ByteArrayInputStream;
import java.io.File;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import org.edgellm.BundleFiles;
import org.edgellm.BundleStore;
import org.edgellm.EngineException;
import org.edgellm.HttpSource;
import org.edgellm.Memory;
import org.edgellm.Source;

/** Store LIST ROOT URL: brings a bundle from a server that fails in many ways; each step says what came of it. */
public final class Store {
    private static final byte[] NOTHING = {};

    public static void main(String[] arguments) throws Exception {
        BundleFiles files = BundleFiles.read(new FileInputStream(arguments[0]));
        File root = new File(arguments[1]);
        BundleStore store = new BundleStore(root);
        store(files, store, root, arguments[2]);
        refused(files, store);
        pushed(files, store, root);
        memory();
        System.out.println("done");
    }

    private static void store(BundleFiles files, BundleStore store, File root, String url) throws Exception {
        check(!store.has(files), "nothing is there at first");
        File old = new File(root, "bundle-0123456789abcdef");
        check(old.mkdirs() && new File(old, "x").createNewFile(), "another bundle");
        // Left in the middle: the next time it goes on where it was.
        Counter left = new Counter(files.bytes / 2);
        try {
            store.install(files, new HttpSource(url), left);
            check(false, "left");
        } catch (IOException error) {
            check(error.getMessage().equals("enough"), error.toString());
        }
        check(!store.has(files) && !old.exists(), "half a bundle is none, and the other is gone");
        Counter rest = new Counter(Long.MAX_VALUE);
        File place = store.install(files, new HttpSource(url), rest);
        check(place.equals(store.place(files)) && store.has(files), "it is there");
        check(rest.last == files.bytes, "progress ends at the sum");
        for (BundleFiles.Entry entry : files.entries) {
            check(new File(place, entry.path).length() == entry.bytes, entry.path);
            check(!new File(place, entry.path + ".part").exists(), "no parts are left");
        }
        store.install(files, new Source() {
            @Override
            public Stream open(String path, long start) throws IOException {
                throw new EngineException("nothing is fetched again");
            }
        }, rest);
        // One that is lost is brought again, and only that.
        BundleFiles.Entry last = files.entries.get(files.entries.size() - 1);
        check(new File(place, last.path).delete() && !store.has(files), "one is lost");
        store.install(files, new HttpSource(url), rest);
        check(store.has(files), "and is there again");
        // What an interrupted write may leave: a damaged part is thrown away.
        BundleFiles.Entry large = largest(files);
        File part = new File(place, large.path + ".part");
        check(new File(place, large.path).delete(), "the largest is lost");
        OutputStream out = new FileOutputStream(part);
        out.write(new byte[1000]);
        out.close();
        store.install(files, new HttpSource(url), rest);
        check(store.has(files) && !part.exists(), "a damaged part");
        System.out.println("stored " + place);
    }

    private static void refused(BundleFiles files, BundleStore store) throws Exception {
        String hash = new String(new char[64]).replace('\0', '0');
        String[] lists = {
            "", "x", hash + " 1 ../x\n", hash + " 1 /x\n", hash + " 1 a//b\n", hash + " 1 .x\n", hash + " -1 x\n",
            hash + " 1 x\n" + hash + " 1 x\n", hash + " 1 a\\b\n",
        };
        for (String list : lists) {
            try {
                BundleFiles.read(new ByteArrayInputStream(list.getBytes("UTF-8")));
                check(false, "the list " + list);
            } catch (EngineException error) {
                check(error.getMessage().contains("again"), error.getMessage());
            }
        }
        for (String url : new String[] {"http://example.org/x", "file:///etc", "http://127.0.0.1.example.org/"}) {
            try {
                new HttpSource(url);
                check(false, url);
            } catch (EngineException error) {
                check(error.getMessage().contains("not https"), error.getMessage());
            }
        }
        final byte[] data = "other".getBytes("UTF-8");
        String other = new String(new char[64]).replace('\0', 'a') + " 5 x\n";
        try {
            store.install(BundleFiles.read(new ByteArrayInputStream(other.getBytes("UTF-8"))), new Source() {
                @Override
                public Stream open(String path, long start) {
                    return new Stream(new ByteArrayInputStream(data), 0);
                }
            }, new Counter(Long.MAX_VALUE));
            check(false, "another file");
        } catch (EngineException error) {
            System.out.println("refused " + error.getMessage());
        }
        String huge = hash + " 900000000000000 x\n";
        try {
            store.install(BundleFiles.read(new ByteArrayInputStream(huge.getBytes("UTF-8"))), new Source() {
                @Override
                public Stream open(String path, long start) {
                    return new Stream(new ByteArrayInputStream(NOTHING), 0);
                }
            }, new Counter(Long.MAX_VALUE));
            check(false, "too large");
        } catch (EngineException error) {
            System.out.println("refused " + error.getMessage());
        }
    }

    private static void pushed(BundleFiles files, BundleStore store, File root) throws Exception {
        File place = new File(root, "shared");
        Counter counter = new Counter(Long.MAX_VALUE);
        try {
            store.accept(files, place, counter);
            check(false, "nothing was pushed");
        } catch (EngineException error) {
            check(error.getMessage().contains("push-model.sh"), error.getMessage());
        }
        // The bundle that refused() removed comes by a plain copy.
        for (BundleFiles.Entry entry : files.entries) {
            File file = new File(place, entry.path);
            check(file.getParentFile().isDirectory() || file.getParentFile().mkdirs(), "a folder");
            InputStream in = new FileInputStream(new File(new File(root, "original"), entry.path));
            OutputStream out = new FileOutputStream(file);
            byte[] chunk = new byte[1 << 16];
            for (int size = in.read(chunk); size >= 0; size = in.read(chunk)) out.write(chunk, 0, size);
            in.close();
            out.close();
        }
        check(store.accept(files, place, counter).equals(place), "accepted");
        File largest = new File(place, largest(files).path);
        BundleStore fresh = new BundleStore(new File(root, "fresh"));
        java.io.RandomAccessFile damage = new java.io.RandomAccessFile(largest, "rw");
        damage.write(new byte[] {1, 2, 3, 4, 5, 6, 7, 8});
        damage.close();
        try {
            fresh.accept(files, place, counter);
            check(false, "damaged");
        } catch (EngineException error) {
            System.out.println("refused " + error.getMessage());
        }
    }

    private static void memory() {
        long gb = 1000000000L;
        check(new Memory(gb, 4 * gb, gb / 2, 8 * gb).verdict == Memory.Verdict.FITS, "fits");
        check(new Memory(gb, gb, gb / 2, 8 * gb).verdict == Memory.Verdict.TIGHT, "tight");
        check(new Memory(5 * gb, 6 * gb, gb / 2, 8 * gb).verdict == Memory.Verdict.TOO_LARGE, "too large");
        System.out.println("memory " + new Memory(1234567890L, 4 * gb, gb, 8 * gb));
    }

    private static BundleFiles.Entry largest(BundleFiles files) {
        BundleFiles.Entry largest = files.entries.get(0);
        for (BundleFiles.Entry entry : files.entries) {
            if (entry.bytes > largest.bytes) largest = entry;
        }
        return largest;
    }

    /** Ends the task after so many bytes. */
    private static final class Counter implements BundleStore.Task {
        private final long limit;
        private long last;

        Counter(long limit) {
            this.limit = limit;
        }

        @Override
        public void progress(long done, long bytes) {
            last = done;
        }

        @Override
        public void check() throws IOException {
            if (last > limit) throw new IOException("enough");
        }
    }

    private static void check(boolean holds, String what) {
        if (!holds) throw new AssertionError(what);
    }
}

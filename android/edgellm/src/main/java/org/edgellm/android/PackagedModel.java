package org.edgellm.android;

import android.app.ActivityManager;
import android.content.Context;
import java.io.File;
import java.io.FileNotFoundException;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.util.Properties;
import org.edgellm.BundleFiles;
import org.edgellm.BundleStore;
import org.edgellm.Engine;
import org.edgellm.EngineException;
import org.edgellm.HttpSource;
import org.edgellm.Memory;
import org.edgellm.Options;

/**
 * The model that edgellm package android wired into this app: where its files come from, what memory it takes,
 * and how to open it. Its methods read files; call them from a thread of your own.
 */
public final class PackagedModel {
    private static final String FOLDER = "edgellm/";

    /** Where the files come from. */
    public enum Weights {
        ASSETS,
        DOWNLOAD,
        PUSH
    }

    /** What the app calls the model. */
    public final String name;
    public final Weights weights;
    public final BundleFiles files;
    /** Tokens of one conversation, as the bundle says. */
    public final long context;

    private final Context app;
    private final Properties about;
    private final BundleStore store;

    /** Read what the app says of its model. */
    public PackagedModel(Context context) throws IOException {
        app = context.getApplicationContext();
        about = new Properties();
        InputStream stream;
        try {
            stream = app.getAssets().open(FOLDER + "model.properties");
        } catch (FileNotFoundException error) {
            throw new EngineException("this app has no model: make its project with edgellm package android", error);
        }
        try {
            about.load(new InputStreamReader(stream, StandardCharsets.UTF_8));
            name = about.getProperty("name");
            weights = Weights.valueOf(about.getProperty("weights"));
            this.context = number("context");
        } finally {
            stream.close();
        }
        files = BundleFiles.read(app.getAssets().open(FOLDER + "files.txt"));
        store = new BundleStore(app.getFilesDir());
    }

    /** Whether {@link #install} has nothing to bring. */
    public boolean isHere() {
        return weights == Weights.PUSH || store.has(files);
    }

    /** What opening the bundle for so many tokens in so many conversations would take. */
    public Memory memory(long context, long batch) {
        ActivityManager.MemoryInfo now = new ActivityManager.MemoryInfo();
        ((ActivityManager) app.getSystemService(Context.ACTIVITY_SERVICE)).getMemoryInfo(now);
        long needed = number("weight_bytes") + number("runtime_bytes") + context * batch * number("bytes_per_token");
        return new Memory(needed, now.availMem, now.threshold, now.totalMem);
    }

    /** Bring the bundle to this device, or look whether it has been pushed; its directory. */
    public File install(BundleStore.Task task) throws IOException {
        switch (weights) {
            case ASSETS:
                return store.install(files, new AssetSource(app.getAssets(), FOLDER + "bundle"), task);
            case DOWNLOAD:
                return store.install(files, new HttpSource(about.getProperty("url")), task);
            default:
                File shared = app.getExternalFilesDir(null);
                if (shared == null) throw new EngineException("this device's shared storage is not there; try again");
                return store.accept(files, new File(shared, "bundle"), task);
        }
    }

    /** Open the bundle that {@link #install} gave. Compiled kernels are kept for the next time. */
    public Engine open(File bundle, Options options) throws IOException {
        options.cache = new File(app.getCodeCacheDir(), "edgellm");
        if (!options.cache.isDirectory() && !options.cache.mkdirs()) options.cache = null;
        options.chat = new File(app.getFilesDir(), "chat.json");
        copyAsset(FOLDER + "chat.json", options.chat);
        return Engine.open(bundle, options);
    }

    private void copyAsset(String name, File to) throws IOException {
        InputStream stream = app.getAssets().open(name);
        try {
            OutputStream out = new FileOutputStream(to);
            try {
                byte[] chunk = new byte[1 << 14];
                for (int size = stream.read(chunk); size >= 0; size = stream.read(chunk)) out.write(chunk, 0, size);
            } finally {
                out.close();
            }
        } finally {
            stream.close();
        }
    }

    private long number(String key) {
        return Long.parseLong(about.getProperty(key));
    }
}

package org.edgellm.android;

import android.content.res.AssetManager;
import java.io.IOException;
import org.edgellm.Source;

/** A bundle among the app's own assets. */
public final class AssetSource implements Source {
    private final AssetManager assets;
    private final String folder;

    public AssetSource(AssetManager assets, String folder) {
        this.assets = assets;
        this.folder = folder;
    }

    @Override
    public Stream open(String path, long start) throws IOException {
        return new Stream(assets.open(folder + "/" + path, AssetManager.ACCESS_STREAMING), 0);
    }
}

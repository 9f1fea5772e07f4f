package org.edgellm;

import java.io.IOException;
import java.net.HttpURLConnection;
import java.net.URL;

/** A bundle on a web server: any that serves files; one that knows ranges lets downloads go on where they ended. */
public final class HttpSource implements Source {
    private static final int PATIENCE_MS = 30000;
    private final String base;

    /** `base`: address of the bundle's directory; https, or http on this device itself. */
    public HttpSource(String base) throws EngineException {
        if (!base.startsWith("https://") && !base.matches("http://(127\\.0\\.0\\.1|localhost)[:/].*")) {
            throw new EngineException("the model's address " + base + " is not https; package the app with another");
        }
        this.base = base.endsWith("/") ? base : base + "/";
    }

    @Override
    public Stream open(String path, long start) throws IOException {
        URL url = new URL(base + path);
        HttpURLConnection connection = (HttpURLConnection) url.openConnection();
        connection.setConnectTimeout(PATIENCE_MS);
        connection.setReadTimeout(PATIENCE_MS);
        // Nothing may change the bytes on their way: they are counted and hashed.
        connection.setRequestProperty("Accept-Encoding", "identity");
        if (start > 0) connection.setRequestProperty("Range", "bytes=" + start + "-");
        int status = connection.getResponseCode();
        if (status == HttpURLConnection.HTTP_PARTIAL) {
            String range = connection.getHeaderField("Content-Range");
            if (range == null || !range.startsWith("bytes " + start + "-")) {
                connection.disconnect();
                throw new EngineException("the server of " + url + " answers with another range than asked for");
            }
            return new Stream(connection.getInputStream(), start);
        }
        if (status == HttpURLConnection.HTTP_OK) return new Stream(connection.getInputStream(), 0);
        connection.disconnect();
        String said = "the server answers " + status + " for " + url;
        boolean later = status >= 500 || status == 429 || status == 408;
        if (later) throw new IOException(said + "; try again later");
        throw new EngineException(said + "; is the bundle there, as edgellm build wrote it?");
    }
}

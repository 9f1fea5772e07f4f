package org.edgellm;

/** Whether a model fits into a device's memory now. */
public final class Memory {
    /** What to do. */
    public enum Verdict {
        /** There is room. */
        FITS,
        /** The system would have to end other apps, or has little memory already: ask first. */
        TIGHT,
        /** It would end this app: do not. */
        TOO_LARGE
    }

    /** Of a device's memory, what one app in the foreground can count on; the system and its parts hold the rest. */
    private static final double MOST = 0.6;

    public final long needed;
    public final long available;
    public final long total;
    public final Verdict verdict;

    /**
     * All in bytes.
     *
     * @param needed what the model takes
     * @param available what the system says is there, background apps that it can end included
     * @param threshold of available memory below which the system ends apps in the background
     * @param total all memory that the system sees
     */
    public Memory(long needed, long available, long threshold, long total) {
        this.needed = needed;
        this.available = available;
        this.total = total;
        if (needed > total * MOST) verdict = Verdict.TOO_LARGE;
        else if (needed + threshold > available) verdict = Verdict.TIGHT;
        else verdict = Verdict.FITS;
    }

    @Override
    public String toString() {
        return "the model takes " + gigabytes(needed) + " of memory; this device has " + gigabytes(total) + ", and "
                + gigabytes(available) + " free now";
    }

    private static String gigabytes(long bytes) {
        long tenths = (bytes + 50000000) / 100000000;
        return tenths / 10 + "." + tenths % 10 + " GB";
    }
}

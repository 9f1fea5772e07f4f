package org.edgellm;

import java.util.ArrayList;
import java.util.List;

/** How an answer is chosen and when it ends. {@link Engine#defaults} gives the bundle's own. */
public final class Settings {
    /** 0: until the context is full. */
    public long maxTokens;
    /** 0: always the likeliest token. */
    public double temperature;
    /** 1: off. */
    public double topP = 1;
    /** 0: off. */
    public double minP;
    /** 1: off. */
    public double repetitionPenalty = 1;
    /** 0: off. */
    public int topK;
    /** Whether to go on after end tokens. */
    public boolean ignoreEnd;
    /** The same seed and prompt give the same answer; 0: another one each time. */
    public long seed;
    /** Texts that end an answer, which has what comes before them. */
    public final List<String> stops = new ArrayList<String>();

    Settings(double[] reals, long[] whole) {
        temperature = reals[0];
        topP = reals[1];
        minP = reals[2];
        repetitionPenalty = reals[3];
        maxTokens = whole[0];
        topK = (int) whole[1];
        ignoreEnd = whole[2] != 0;
        seed = whole[3];
    }

    double[] reals() {
        return new double[] {temperature, topP, minP, repetitionPenalty};
    }

    long[] whole() {
        return new long[] {maxTokens, topK, ignoreEnd ? 1 : 0, seed};
    }
}

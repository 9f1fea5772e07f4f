package org.edgellm;

/** A part of a conversation. A system message may come first; then user and assistant take turns. */
public final class Message {
    public final String role;
    public final String text;

    private Message(String role, String text) {
        if (text == null) throw new NullPointerException("a message has a text");
        this.role = role;
        this.text = text;
    }

    public static Message system(String text) {
        return new Message("system", text);
    }

    public static Message user(String text) {
        return new Message("user", text);
    }

    public static Message assistant(String text) {
        return new Message("assistant", text);
    }
}

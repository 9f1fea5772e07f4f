import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.edgellm.Engine;
import org.edgellm.EngineException;
import org.edgellm.Message;
import org.edgellm.Options;
import org.edgellm.Request;
import org.edgellm.Settings;
import org.edgellm.Usage;

/**
 * Answers BUNDLE DEVICE CHAT LENGTH: answers the questions on standard input, one a line, all at the same time and
 * then one by one, and prints token ids and texts; then tries what an app may do to an engine.
 */
public final class Answers {
    private static final int TOGETHER = 4;

    public static void main(String[] arguments) throws Exception {
        List<String> questions = new ArrayList<String>();
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) questions.add(line);
        Options options = new Options();
        options.device = arguments[1];
        options.chat = new File(arguments[2]);
        options.batch = TOGETHER;
        Engine engine = Engine.open(new File(arguments[0]), options);
        Settings settings = engine.defaults();
        settings.temperature = 0;
        settings.maxTokens = Long.parseLong(arguments[3]);
        System.out.println("device " + engine.info().device);
        answers(engine, questions, settings);
        cancelled(engine, questions.get(0));
        refused(engine, settings);
        closed(engine, questions.get(0), settings);
    }

    private static void answers(Engine engine, List<String> questions, Settings settings) throws IOException {
        List<Request> together = new ArrayList<Request>();
        for (String question : questions) together.add(engine.answer(ask(question), settings));
        List<int[]> ids = new ArrayList<int[]>();
        for (Request request : together) {
            String text = request.text();
            ids.add(request.ids());
            say("answer " + join(request.ids()) + "|" + text.replace("\n", "\\n"));
            request.close();
            check(Arrays.equals(request.ids(), ids.get(ids.size() - 1)), "ids stay after closing");
        }
        for (int i = 0; i < 3; i++) {
            Request alone = engine.answer(ask(questions.get(i)), settings);
            alone.text();
            check(Arrays.equals(alone.ids(), ids.get(i)), "alone as in company");
            Usage usage = alone.usage();
            check(usage.answerTokens == alone.ids().length, "usage counts the answer");
            check(usage.promptTokens == engine.tokenize(ask(questions.get(i))).length, "usage counts the prompt");
            alone.close();
        }
        Settings stopped = engine.defaults();
        stopped.temperature = 0;
        stopped.stops.add(" ");
        Request request = engine.answer(ask(questions.get(0)), stopped);
        String text = request.text();
        check(!text.contains(" ") && request.usage().reason == Usage.Reason.STOP, "a stop text ends it");
        request.close();
    }

    /** From another thread while the answer is waited for. */
    private static void cancelled(Engine engine, String question) throws Exception {
        Settings endless = engine.defaults();
        endless.ignoreEnd = true;
        endless.temperature = 0.8;
        endless.seed = 3;
        final Request request = engine.answer(ask(question), endless);
        check(request.next() != null, "it has begun");
        Thread other = new Thread() {
            @Override
            public void run() {
                request.cancel();
            }
        };
        other.start();
        request.text();
        other.join();
        check(request.usage().reason == Usage.Reason.CANCELLED, "cancelled");
        request.close();
        request.cancel();
        check(request.next() == null, "nothing after closing");
    }

    private static void refused(Engine engine, Settings settings) {
        try {
            engine.submit(new int[] {1 << 30}, settings);
            check(false, "an id outside the vocabulary");
        } catch (EngineException error) {
            say("refused " + error.getMessage());
        }
        try {
            engine.answer(Arrays.asList(Message.assistant("x")), settings);
            check(false, "a conversation that ends with an answer");
        } catch (EngineException error) {
            say("refused " + error.getMessage());
        }
        try {
            Engine.open(new File("no-such-bundle-\u00e9\ud83d\ude00"), new Options());
            check(false, "a bundle that is not there");
        } catch (EngineException error) {
            say("refused " + error.getMessage());
        }
    }

    /** Closing while another thread waits for an answer ends that, and nothing works after it. */
    private static void closed(final Engine engine, String question, Settings settings) throws Exception {
        Settings endless = engine.defaults();
        endless.ignoreEnd = true;
        final Request request = engine.answer(ask(question), endless);
        final boolean[] ended = {false};
        Thread reader = new Thread() {
            @Override
            public void run() {
                try {
                    request.text();
                    ended[0] = true;
                } catch (EngineException error) {
                    say("refused " + error.getMessage());
                }
            }
        };
        reader.start();
        engine.close();
        engine.close();
        reader.join();
        check(ended[0], "the reader came to an end");
        request.close();
        try {
            engine.answer(ask(question), settings);
            check(false, "a closed engine");
        } catch (EngineException error) {
            say("refused " + error.getMessage());
        }
        say("done");
    }

    private static List<Message> ask(String question) {
        return Arrays.asList(Message.user(question));
    }

    private static String join(int[] ids) {
        StringBuilder text = new StringBuilder();
        for (int id : ids) text.append(text.length() == 0 ? "" : " ").append(id);
        return text.toString();
    }

    private static void say(String line) {
        System.out.write((line + "\n").getBytes(StandardCharsets.UTF_8), 0,
                (line + "\n").getBytes(StandardCharsets.UTF_8).length);
        System.out.flush();
    }

    private static void check(boolean holds, String what) {
        if (!holds) throw new AssertionError(what);
    }
}

import java.io.File
import kotlinx.coroutines.CoroutineStart
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.Job
import kotlinx.coroutines.async
import kotlinx.coroutines.awaitAll
import kotlinx.coroutines.coroutineScope
import kotlinx.coroutines.delay
import kotlinx.coroutines.flow.first
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.launch
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withTimeout
import org.edgellm.Engine
import org.edgellm.EngineException
import org.edgellm.Message
import org.edgellm.Options
import org.edgellm.Usage
import org.edgellm.answers
import org.edgellm.closeLater
import org.edgellm.openEngine

/** Flows BUNDLE DEVICE CHAT LENGTH: answers standard input's questions through flows; ends some early. */
fun main(arguments: Array<String>) = runBlocking {
    val questions = generateSequence(::readLine).toList()
    val options = Options().apply {
        device = arguments[1]
        chat = File(arguments[2])
        batch = 4
    }
    val engine = openEngine(File(arguments[0]), options)
    val settings = engine.defaults().apply {
        temperature = 0.0
        maxTokens = arguments[3].toLong()
    }
    val answers = coroutineScope {
        questions.map { question ->
            async(Dispatchers.Default) {
                var usage: Usage? = null
                val text = engine.answers(listOf(Message.user(question)), settings) { usage = it }.toList().joinToString("")
                check(checkNotNull(usage).answerTokens > 0)
                text
            }
        }.awaitAll()
    }
    answers.forEach { println("answer " + it.replace("\n", "\\n")) }

    // A collector that has enough ends the answer: the engine has room for the next one.
    val endless = engine.defaults().apply { ignoreEnd = true }
    repeat(6) { engine.answers(listOf(Message.user(questions[0])), endless).first() }

    // So does one that is cancelled.
    val job = launch(Dispatchers.Default) { engine.answers(listOf(Message.user(questions[0])), endless).collect {} }
    delay(50)
    job.cancel()
    job.join()

    // And one that is cancelled while it starts.
    repeat(5) {
        lateinit var starting: Job
        val messages = object : AbstractList<Message>() {
            override val size = 1

            override fun get(index: Int): Message = Message.user(questions[0]).also { starting.cancel() }
        }
        starting = launch(Dispatchers.Default, CoroutineStart.LAZY) { engine.answers(messages, endless).collect {} }
        starting.join()
    }
    withTimeout(10_000) { while (openRequests(engine) > 0) delay(10) }

    try {
        engine.answers(listOf(Message.assistant("x")), settings).collect {}
        error("not refused")
    } catch (refused: EngineException) {
        println("refused " + refused.message)
    }
    engine.closeLater()
    println("done")
}

/** Requests that the engine still holds, which it tells nobody else. */
private fun openRequests(engine: Engine): Int {
    val field = Engine::class.java.getDeclaredField("requests").apply { isAccessible = true }
    val requests = field.get(engine) as Set<*>
    return synchronized(requests) { requests.size }
}

package org.edgellm

import java.io.File
import java.io.IOException
import kotlinx.coroutines.CoroutineStart
import kotlinx.coroutines.DelicateCoroutinesApi
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.ExperimentalCoroutinesApi
import kotlinx.coroutines.channels.awaitClose
import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.buffer
import kotlinx.coroutines.flow.callbackFlow
import kotlinx.coroutines.flow.flowOn
import kotlinx.coroutines.launch
import kotlinx.coroutines.withContext

/**
 * The answer to a conversation, piece by piece. Collecting starts it; a collector that stops or is cancelled ends
 * it. The model never waits for a slow collector.
 *
 * @param settings how it is chosen; by default as the bundle says
 * @param onEnd called with what it took, before the flow completes
 */
fun Engine.answers(
    messages: List<Message>,
    settings: Settings = defaults(),
    onEnd: (Usage) -> Unit = {},
): Flow<String> = pieces(onEnd) { answer(messages, settings) }

/** What comes after a text, piece by piece; otherwise as [answers]. */
fun Engine.completions(
    text: String,
    settings: Settings = defaults(),
    onEnd: (Usage) -> Unit = {},
): Flow<String> = pieces(onEnd) { complete(text, settings) }

/** Open a bundle without blocking the caller's thread. */
suspend fun openEngine(bundle: File, options: Options = Options()): Engine =
    withContext(Dispatchers.IO) { Engine.open(bundle, options) }

/** Close without blocking the caller's thread. */
suspend fun Engine.closeLater(): Unit = withContext(Dispatchers.IO) { close() }

@OptIn(DelicateCoroutinesApi::class, ExperimentalCoroutinesApi::class) // ATOMIC: one or the other, by version
private fun pieces(onEnd: (Usage) -> Unit, start: () -> Request): Flow<String> =
    callbackFlow {
        val request = start()
        // Begun even if the collector was cancelled meanwhile: it is what closes the request.
        launch(Dispatchers.IO, CoroutineStart.ATOMIC) {
            try {
                while (true) send(request.next() ?: break)
                onEnd(request.usage())
                close()
            } catch (failure: IOException) {
                close(failure)
            } finally {
                request.close()
            }
        }
        // Waiting for the next piece cannot be interrupted, but cancelling the request ends it at once.
        awaitClose { request.cancel() }
    }.buffer(Channel.UNLIMITED).flowOn(Dispatchers.IO)

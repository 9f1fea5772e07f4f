"""`Generation`: the caller's handle of one request, readable from threads and from asyncio."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Literal

from edgellm.backends.params import SamplingParams

FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True)
class TokenLogprob:
    """Natural log-probability of a chosen token, and of the likeliest ones where asked."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Chunk:
    """A piece of the answer. `text` may be empty; `finish_reason` is set on the last chunk only."""

    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: FinishReason | None = None


@dataclass(frozen=True)
class Result:
    """A finished answer. `token_ids` holds no end token; `ttft_s` is the time to the first token."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    prompt_tokens: int
    cached_tokens: int
    logprobs: tuple[TokenLogprob, ...]
    ttft_s: float
    seconds: float

    @property
    def completion_tokens(self) -> int:
        return len(self.token_ids)


class Generation:
    """One request on its way. Iterate over it (or `async for`) once to get its chunks, or call `result()`.

    Leaving the loop early does not cancel; `cancel()` does, at once and from any thread.
    """

    def __init__(
        self,
        request_id: int,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        on_cancel: Callable[[Generation], None],
    ) -> None:
        self.request_id = request_id
        self.prompt_ids = tuple(prompt_ids)
        self.params = params
        self.cached_tokens = 0
        """Prompt tokens taken from the prefix cache instead of being computed."""
        self.submitted_at = time.perf_counter()
        self.first_token_at: float | None = None
        self.finished_at: float | None = None
        self._on_cancel = on_cancel
        # None: the end, which stays there for whoever reads on.
        self._chunks: SimpleQueue[Chunk | None] = SimpleQueue()
        self._all: list[Chunk] = []
        self._error: BaseException | None = None
        self._done = False
        self._lock = threading.Lock()
        # Who waits for the end only is not woken by each token: on a busy CPU that would cost speed.
        self._ended = threading.Event()
        self._waker: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    @property
    def prompt_tokens(self) -> int:
        return len(self.prompt_ids)

    @property
    def done(self) -> bool:
        """Whether the last chunk or an error has arrived (though perhaps not been read)."""
        return self._done

    def cancel(self) -> None:
        """End the answer now with the reason "cancelled". Does nothing if it has ended already."""
        self._on_cancel(self)

    def put(self, chunk: Chunk) -> bool:
        """For the engine: add a chunk. False if the answer has ended already (then it is dropped)."""
        with self._lock:
            if self._done:
                return False
            now = time.perf_counter()
            if chunk.token_ids and self.first_token_at is None:
                self.first_token_at = now
            self._all.append(chunk)
            self._chunks.put(chunk)
            if chunk.finish_reason is not None:
                self._end(now)
            self._wake()
            return True

    def fail(self, error: BaseException) -> None:
        """For the engine: end with an error, which reading raises."""
        with self._lock:
            if not self._done:
                self._error = error
                self._end(time.perf_counter())
                self._wake()

    def _end(self, now: float) -> None:
        self._done, self.finished_at = True, now
        self._chunks.put(None)
        self._ended.set()

    def _wake(self) -> None:
        if self._waker is not None:
            loop, event = self._waker
            try:
                loop.call_soon_threadsafe(event.set)
            except RuntimeError:  # the loop was closed with the reader gone; nobody is left to wake
                self._waker = None

    def _read(self, *, wait: bool) -> Chunk | None:
        """The next chunk; None at the end.

        Raises:
            queue.Empty: there is none yet, and `wait` is False. Exception: the answer failed.
        """
        chunk = self._chunks.get(block=wait)
        if chunk is None:
            self._chunks.put(None)
            if self._error is not None:
                raise self._error
        return chunk

    def __iter__(self) -> Iterator[Chunk]:
        while (chunk := self._read(wait=True)) is not None:
            yield chunk

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        event = asyncio.Event()
        with self._lock:
            self._waker = (asyncio.get_running_loop(), event)
        while True:
            event.clear()
            try:
                chunk = self._read(wait=False)
            except Empty:
                await event.wait()
                continue
            if chunk is None:
                return
            yield chunk

    def result(self) -> Result:
        """Wait for the end and return the whole answer, however much of it was read as chunks before.

        Raises:
            ExecutorError: the backend failed.
        """
        self._ended.wait()
        return self._result()

    async def aresult(self) -> Result:
        """`result()` for asyncio."""
        async for _ in self:
            pass
        return self._result()

    def _result(self) -> Result:
        if self._error is not None:
            raise self._error
        assert self.finished_at is not None
        reason = self._all[-1].finish_reason
        assert reason is not None
        return Result(
            text="".join(chunk.text for chunk in self._all),
            token_ids=tuple(t for chunk in self._all for t in chunk.token_ids),
            finish_reason=reason,
            prompt_tokens=self.prompt_tokens,
            cached_tokens=self.cached_tokens,
            logprobs=tuple(p for chunk in self._all for p in chunk.logprobs),
            ttft_s=(self.first_token_at or self.finished_at) - self.submitted_at,
            seconds=self.finished_at - self.submitted_at,
        )

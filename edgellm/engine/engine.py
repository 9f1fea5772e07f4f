"""`Engine`: text in, text out, many requests at once, over one bundle."""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from types import TracebackType
from typing import Any

from edgellm.backends import LoadOptions, get_backend
from edgellm.backends.executor import Executor
from edgellm.backends.memory import MemoryPlan
from edgellm.backends.params import SamplingParams
from edgellm.bundle import Bundle
from edgellm.engine.cohort_loop import CohortLoop
from edgellm.engine.generation import Chunk, Generation, Result
from edgellm.engine.sequence import Sequence as EngineSequence
from edgellm.engine.stats import Counts, EngineStats
from edgellm.engine.step_loop import StepLoop
from edgellm.errors import (
    DeviceLostError,
    EdgeLLMError,
    PromptTooLongError,
    QueueFullError,
    RequestError,
)

Message = Mapping[str, Any]
Prompt = str | Sequence[Message]
"""A text (one user turn, unless `raw`), or the messages of a conversation."""

_HANDLED_HERE = {"max_tokens", "stop", "stop_token_ids", "ignore_eos", "temperature"}
"""Settings that work with every executor."""


class Engine:
    """Runs a bundle. Thread-safe; use it as a context manager or call `close()`.

    Args:
        bundle: a bundle's directory, a `Bundle`, or what `edgellm.build` returned.
        threads: CPU threads of a step; None = one per core.
        max_batch: sequences that run together; their whole contexts get room in the cache. None = the
            backend's choice, with a cache that fits this machine.
        context: tokens one sequence may hold, at most the bundle's own; smaller needs less memory.
        workers: cohorts that can run at the same time (request-level bundles only).
        kv: what the key/value cache holds: fp16, or int8 in half the memory (bundles of the TVM backend).
        max_queue: requests that may wait before `QueueFullError`.
        prefix_cache: whether prompts that begin alike share what was computed (step-level bundles only).
        executor: an executor to use instead of the one of the bundle's backend.
        on_memory: hears what memory will be taken, before anything is loaded.

    Raises:
        BundleError, MissingDependencyError: the bundle cannot be opened here.
        UnsupportedError: it needs more memory than this machine has free; says what would fit.
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str] | Bundle,
        *,
        threads: int | None = None,
        max_batch: int | None = None,
        context: int | None = None,
        workers: int | None = None,
        kv: str | None = None,
        max_queue: int = 256,
        prefix_cache: bool = True,
        executor: Executor | None = None,
        on_memory: Callable[[MemoryPlan], None] | None = None,
    ) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        manifest = self.bundle.manifest
        self.tokenizer = self.bundle.tokenizer()
        self._template = self.bundle.chat_template()
        if executor is None:
            options = LoadOptions(threads, max_batch, context, workers, kv, on_memory)
            executor = get_backend(manifest.backend).load(self.bundle, options)
        self.executor = executor
        self.context = min(manifest.context, executor.limits.context, context or manifest.context)
        self.max_queue = max_queue
        self._loop: StepLoop | CohortLoop
        if executor.mode == "step":
            # A sequence that the whole cache cannot hold would wait for ever.
            self.context = min(self.context, executor.limits.num_blocks * executor.limits.block_size)
            self._loop = StepLoop(executor, prefix_cache=prefix_cache)
        else:
            self._loop = CohortLoop(executor)
        self._ids = itertools.count(1)
        self._live: dict[Generation, EngineSequence] = {}
        self._counts = Counts()
        self._lock = threading.Lock()
        self._closed = False
        # Also when a program ends, or drops its engine, without having closed it.
        self._release = weakref.finalize(self, _release, self._loop, executor)

    @property
    def mode(self) -> str:
        """ "step" (requests join a running batch) or "request" (requests join a free worker in cohorts)."""
        return self.executor.mode

    @property
    def steps(self) -> int:
        """Steps so far (0 in request mode)."""
        return self._loop.steps if isinstance(self._loop, StepLoop) else 0

    @property
    def failure(self) -> DeviceLostError | None:
        """Why this engine can answer nothing any more, if so."""
        return self._loop.failure if isinstance(self._loop, StepLoop) else None

    @property
    def memory(self) -> MemoryPlan | None:
        """What this engine takes of the machine's memory, by parts."""
        return self.executor.memory

    # -- prompts and settings

    def encode_prompt(self, prompt: Prompt, *, raw: bool = False) -> list[int]:
        """Token ids of a prompt: through the chat template, or with `raw` just the tokenizer's default.

        A bundle without a chat template treats every text as raw.
        """
        if isinstance(prompt, str):
            if raw or self._template is None:
                return self.tokenizer.encode(prompt, add_special_tokens=True)
            prompt = [{"role": "user", "content": prompt}]
        return self.encode_messages(prompt)

    def encode_messages(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = True
    ) -> list[int]:
        """Token ids of a conversation through the bundle's chat template.

        Raises:
            TemplateError: the template refuses the messages. RequestError: the bundle has no template.
        """
        if self._template is None:
            raise RequestError("this bundle has no chat template; send a plain prompt (--raw) instead")
        text = self._template.render(messages, add_generation_prompt=add_generation_prompt)
        return self.tokenizer.encode(text, add_special_tokens=False)

    def params(self, **settings: Any) -> SamplingParams:
        """The bundle's sampling defaults with `settings` on top.

        Raises:
            RequestError: an unknown setting, or one that the executor cannot honour.
        """
        wanted = SamplingParams.from_defaults(self.bundle.manifest.sampling, **settings)
        if self.executor.mode == "step":
            return wanted
        able = self.executor.supported | _HANDLED_HERE
        off = SamplingParams()
        unable = [f.name for f in fields(SamplingParams) if f.name not in able]
        for name in unable:
            if name in settings and settings[name] != getattr(off, name):
                raise RequestError(
                    f"{name} is not supported by the {self.bundle.manifest.backend} backend; leave it out"
                )
        if wanted.logprobs and "top_logprobs" not in able:
            raise RequestError(
                f"the {self.bundle.manifest.backend} backend gives the log-probability of the chosen token "
                "only; ask for logprobs without alternatives"
            )
        # A default of the checkpoint that cannot be honoured, or not at a bearable cost, is dropped.
        unwanted = [name for name in (*unable, *self.executor.costly) if name not in settings]
        dropped = {name: getattr(off, name) for name in unwanted}
        return SamplingParams.from_defaults(self.bundle.manifest.sampling, **(settings | dropped))

    # -- requests

    def submit(self, prompt_ids: Sequence[int], params: SamplingParams | None = None) -> Generation:
        """Queue one request; returns at once.

        Raises:
            PromptTooLongError: the prompt leaves no room for an answer.
            RequestError: an empty prompt or a token id outside the vocabulary.
            QueueFullError: `max_queue` requests are waiting already.
        """
        return self.submit_many([prompt_ids], params)[0]

    def submit_many(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
    ) -> list[Generation]:
        """Queue several requests at once, all or none, so that they can share their first step or cohort."""
        if params is None or isinstance(params, SamplingParams):
            params = [params or self.params()] * len(prompts)
        sequences = [self._sequence(ids, p) for ids, p in zip(prompts, params, strict=True)]
        return self._enqueue(sequences, limit=self.max_queue)

    def _enqueue(self, sequences: list[EngineSequence], limit: int | None = None) -> list[Generation]:
        with self._lock:
            if self._closed:
                raise EdgeLLMError("the engine is closed")
            waiting = self._loop.waiting
            if limit is not None and waiting + len(sequences) > limit:
                raise QueueFullError(f"{waiting} requests are waiting and {limit} may; try again later")
            self._settle()
            self._loop.submit(sequences)
            for sequence in sequences:
                self._live[sequence.generation] = sequence
        return [sequence.generation for sequence in sequences]

    def check(self, prompt_ids: Sequence[int], params: SamplingParams) -> None:
        """Raise what `submit` would raise for this request, the full queue apart."""
        self._sequence(prompt_ids, params)

    def _sequence(self, prompt_ids: Sequence[int], params: SamplingParams) -> EngineSequence:
        vocab_size = self.executor.limits.vocab_size
        if not prompt_ids:
            raise RequestError("the prompt is empty: it must have at least one token")
        if min(prompt_ids) < 0 or max(prompt_ids) >= vocab_size:
            raise RequestError(f"a token id of the prompt is outside the vocabulary of {vocab_size} tokens")
        room = self.context - len(prompt_ids)
        if room < 1:
            built = self.bundle.manifest.context
            larger = "build with" if self.context == built else f"open the bundle, which holds {built}, with"
            raise PromptTooLongError(
                f"the prompt has {len(prompt_ids)} tokens, and the context holds {self.context} "
                f"for prompt and answer together; shorten the prompt or {larger} a larger --context",
                len(prompt_ids),
                self.context,
            )
        if any(token >= vocab_size or token < 0 for token in params.logit_bias):
            raise RequestError(f"logit_bias names a token outside the vocabulary of {vocab_size} tokens")
        generation = Generation(next(self._ids), prompt_ids, params, self._cancel)
        ends = frozenset() if params.ignore_eos else frozenset(self.bundle.manifest.tokenizer.eos_ids)
        return EngineSequence(generation, min(params.max_tokens or room, room), ends, self.tokenizer.decode)

    def _cancel(self, generation: Generation) -> None:
        with self._lock:
            sequence = self._live.get(generation)
        if sequence is not None and generation.put(Chunk("", finish_reason="cancelled")):
            sequence.cancelled = True
            self._loop.cancel(sequence)

    def _settle(self) -> None:
        """Count finished requests and forget them. Called under the lock."""
        for generation in [g for g in self._live if g.done]:
            del self._live[generation]
            self._counts.add(generation)

    def stats(self) -> EngineStats:
        """Counts of this moment."""
        with self._lock:
            self._settle()
            return EngineStats(
                running=self._loop.running,
                waiting=self._loop.waiting,
                cache=self._loop.scheduler.stats() if isinstance(self._loop, StepLoop) else None,
                **asdict(self._counts),
            )

    # -- the short ways

    def stream(self, prompt: Prompt, *, raw: bool = False, **settings: Any) -> Iterator[str]:
        """The answer to one prompt, piece by piece. Leaving the loop cancels the request."""
        generation = self.submit(self.encode_prompt(prompt, raw=raw), self.params(**settings))
        try:
            for chunk in generation:
                if chunk.text:
                    yield chunk.text
        finally:
            generation.cancel()

    def generate(self, prompts: Sequence[Prompt], *, raw: bool = False, **settings: Any) -> list[Result]:
        """The answers to several prompts, batched, in their order. `max_queue` does not apply."""
        params = self.params(**settings)
        sequences = [self._sequence(self.encode_prompt(prompt, raw=raw), params) for prompt in prompts]
        return [generation.result() for generation in self._enqueue(sequences)]

    async def astream(self, prompt: Prompt, *, raw: bool = False, **settings: Any) -> AsyncIterator[str]:
        """`stream` for asyncio."""
        generation = self.submit(self.encode_prompt(prompt, raw=raw), self.params(**settings))
        try:
            async for chunk in generation:
                if chunk.text:
                    yield chunk.text
        finally:
            generation.cancel()

    async def agenerate(
        self, prompts: Sequence[Prompt], *, raw: bool = False, **settings: Any
    ) -> list[Result]:
        """`generate` for asyncio."""
        params = self.params(**settings)
        sequences = [self._sequence(self.encode_prompt(prompt, raw=raw), params) for prompt in prompts]
        return [await generation.aresult() for generation in self._enqueue(sequences)]

    # -- lifetime

    def close(self) -> None:
        """Cancel what is running and free the executor. Safe to call twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._release()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _release(loop: StepLoop | CohortLoop, executor: Executor) -> None:
    loop.close()
    executor.close()

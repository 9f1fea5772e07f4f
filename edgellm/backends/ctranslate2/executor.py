"""The request executor over `ctranslate2.Generator`: a cohort is one `generate_batch`."""

from __future__ import annotations

import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from edgellm.backends.ctranslate2.allocator import keep_freed_memory, share_one_heap
from edgellm.backends.ctranslate2.first_token import draw_first_token
from edgellm.backends.ctranslate2.passes import Feed, all_forced, at_once, one_forced
from edgellm.backends.ctranslate2.seeding import WorkerGenerator, find_generator
from edgellm.backends.ctranslate2.vocabulary import read_tokens
from edgellm.backends.executor import Cohort, ExecutorLimits, Float32s, TokenCallback
from edgellm.backends.memory import MemoryPlan
from edgellm.backends.params import SamplingParams
from edgellm.errors import BundleError, ExecutorError

_CLOSE_SECONDS = 30.0
_SMALLEST_TEMPERATURE = 1e-4
"""Below it CTranslate2's float32 reciprocal and the scaled logits lose their meaning."""


class CTranslate2Executor:
    """Runs cohorts on the CPU; `limits.workers` of them at once over one copy of the weights.

    Sampling follows CTranslate2: top-k, then temperature, then top-p (the order of the first two does not
    matter), as in transformers. The repetition penalty counts every token of prompt and answer but the
    first of the prompt, and makes reading the prompt slow (see `passes.py`). `logprobs` gives the
    chosen token's log-probability before temperature and truncation, never those of others.
    """

    mode: Literal["request"] = "request"

    def __init__(
        self,
        directory: Path,
        *,
        quant: str,
        context: int,
        window: int,
        vocab_size: int,
        threads: int,
        workers: int,
        max_batch: int,
    ) -> None:
        """Load the model in `directory`.

        Args:
            quant: int8 or fp32. context: tokens one sequence may hold. window: see `passes.at_once`.
            threads: of one cohort. workers: cohorts at once.
        """
        import ctranslate2

        self._tokens = read_tokens(directory)
        if len(self._tokens) != vocab_size:
            raise BundleError(
                f"{directory} has {len(self._tokens)} tokens instead of {vocab_size}; build the bundle again"
            )
        share_one_heap()
        try:
            generator = ctranslate2.Generator(
                str(directory),
                device="cpu",
                compute_type="int8" if quant == "int8" else "float32",
                inter_threads=workers,
                intra_threads=threads,
                max_queued_batches=-1,
            )
        except (RuntimeError, ValueError) as error:
            raise BundleError(
                f"CTranslate2 cannot load {directory}: {error}; build the bundle again"
            ) from None
        keep_freed_memory()  # after loading, whose own buffers may well be returned
        self._library = _Library(generator)
        # At the interpreter's exit too: a worker thread that still holds a callback then aborts the process.
        self._close = weakref.finalize(self, self._library.close)
        self._window = window
        self._seeding: WorkerGenerator | None = find_generator(ctranslate2._ext.__file__)
        self.limits = ExecutorLimits(
            vocab_size=vocab_size, context=context, max_batch=max_batch, workers=workers
        )
        supported = {"temperature", "top_k", "top_p", "repetition_penalty", "min_tokens", "logprobs"}
        if self._seeding is not None:
            supported.add("seed")
        self.supported = frozenset(supported)
        self.max_logits_tokens = min(context, window or context)
        self.costly = frozenset({"repetition_penalty"})
        self.memory: MemoryPlan | None = None

    def run(self, cohort: Cohort, on_token: TokenCallback) -> None:
        """Generate every row to its end; blocks. See `RequestExecutor`.

        Raises:
            ExecutorError: CTranslate2 failed. Whatever `on_token` raises comes out as it is.
        """
        params = cohort.params
        seeding = self._seeding if cohort.seed is not None and not params.greedy else None
        if seeding is not None and len(cohort.prompts[0]) == 1:
            following = self._after_first(cohort, on_token)
            if following is None:
                return
            cohort = following
        if params.repetition_penalty != 1:
            feed = all_forced(cohort.prompts)
        elif seeding is not None:
            feed = one_forced(cohort.prompts[0], self._window)
        else:
            feed = at_once(cohort.prompts, self._window)
        if feed.counts_forced and params.min_tokens and len(set(feed.forced)) > 1:
            # CTranslate2 counts forced steps into the minimum here, which is right for equal lengths only.
            for rows in _by_length(cohort):
                self.run(_part(cohort, rows), lambda row, *rest, rows=rows: on_token(rows[row], *rest))
            return
        self._generate(cohort, feed, on_token, seeding)

    def sequence_logits(self, token_ids: Sequence[int]) -> Float32s:
        """See `SequenceLogits`. All tokens go in at once, so a sliding window limits how many (`passes.py`).

        Raises:
            ExecutorError: the sequence is too long, or CTranslate2 failed.
        """
        import numpy as np

        if len(token_ids) > self.max_logits_tokens:
            raise ExecutorError(
                f"logits of {len(token_ids)} tokens were asked for; CTranslate2 gives right ones for at most "
                f"{self.max_logits_tokens} tokens of this model"
            )
        try:
            output = self._library.open().forward_batch([list(token_ids)])
        except (RuntimeError, ValueError) as error:
            raise ExecutorError(f"CTranslate2 failed while scoring: {error}") from error
        logits: Float32s = np.asarray(output)[0]
        return logits

    def close(self) -> None:
        """End what runs and free the model."""
        self._close()

    def _generate(
        self, cohort: Cohort, feed: Feed, on_token: TokenCallback, seeding: WorkerGenerator | None
    ) -> None:
        rows = _Rows(cohort, feed, on_token, self._library, seeding)
        try:
            self._library.open().generate_batch(
                [[self._tokens[id] for id in row] for row in feed.rows],
                static_prompt=[self._tokens[id] for id in feed.static],
                cache_static_prompt=False,
                include_prompt_in_result=feed.with_prompt,
                end_token=list(cohort.end_ids),
                callback=rows.step,
                **_lengths(cohort, feed),
                **self._sampling(cohort.params),
            )
        except (RuntimeError, ValueError) as error:
            if rows.error is None:
                raise ExecutorError(f"CTranslate2 failed while generating: {error}") from error
        if rows.error is not None:
            raise rows.error
        if self._library.closing:
            raise ExecutorError("the executor was closed while it was generating")

    def _sampling(self, params: SamplingParams) -> dict[str, Any]:
        common = {
            "repetition_penalty": params.repetition_penalty,
            "return_scores": params.logprobs is not None,
        }
        if params.greedy:
            return {"sampling_topk": 1, **common}
        return {
            "sampling_topk": min(params.top_k, self.limits.vocab_size),
            "sampling_topp": params.top_p,
            "sampling_temperature": max(params.temperature, _SMALLEST_TEMPERATURE),
            **common,
        }

    def _after_first(self, cohort: Cohort, on_token: TokenCallback) -> Cohort | None:
        """Draw the token after a prompt of one token, which leaves no step to seed in; then what remains."""
        import numpy as np

        prompt, seed = cohort.prompts[0], cohort.seed
        assert seed is not None
        output = self._library.open().forward_batch([list(prompt)])
        logits = np.asarray(output)[0, -1].copy()
        first, logprob = draw_first_token(logits, prompt[0], cohort.params, cohort.end_ids, seed)
        if first in cohort.end_ids:
            return None
        if on_token(0, first, logprob) or cohort.max_tokens[0] == 1:
            return None
        return replace(
            cohort,
            prompts=[[*prompt, first]],
            params=replace(cohort.params, min_tokens=max(0, cohort.params.min_tokens - 1)),
            max_tokens=[cohort.max_tokens[0] - 1],
        )


@dataclass
class _Library:
    """The loaded model, shared by all that may have to close it."""

    generator: Any
    closing: bool = False

    def open(self) -> Any:
        """The generator; ExecutorError once closed."""
        if self.closing:
            raise ExecutorError("the executor is closed")
        return self.generator

    def close(self) -> None:
        """Rows end at their next token; then the model goes."""
        self.closing = True
        deadline = time.monotonic() + _CLOSE_SECONDS
        while self.generator.num_active_batches and time.monotonic() < deadline:
            time.sleep(0.002)
        self.generator = None


class _Rows:
    """Turns CTranslate2's callbacks into `on_token`; keeps the first exception, ends all rows after it."""

    def __init__(
        self,
        cohort: Cohort,
        feed: Feed,
        on_token: TokenCallback,
        library: _Library,
        seeding: WorkerGenerator | None,
    ) -> None:
        self.error: BaseException | None = None
        self._feed = feed
        self._on_token = on_token
        self._library = library
        self._end_ids = frozenset(cohort.end_ids)
        self._left = list(cohort.max_tokens)
        self._seed = cohort.seed
        self._seeding = seeding

    def step(self, result: Any) -> bool:
        """CTranslate2's callback, on the worker's thread; True ends the row."""
        ended = True
        try:
            ended = self.error is not None or self._library.closing or self._step(result)
        except BaseException as error:  # it would be lost, or worse, inside the library
            self.error = error
        if ended and self._seeding is not None:
            # The worker's next request must not continue from a known state.
            self._seeding.seed(None)
        return ended

    def _step(self, result: Any) -> bool:
        row: int = result.batch_id
        if row >= self._feed.real:
            return True
        forced = self._feed.forced[row]
        if result.step < forced:
            if self._seeding is not None and result.step == forced - 1:
                self._seeding.seed(self._seed)
            return False
        if result.token_id in self._end_ids:
            return True
        self._left[row] -= 1
        return self._on_token(row, result.token_id, result.log_prob) or self._left[row] <= 0


def _lengths(cohort: Cohort, feed: Feed) -> dict[str, int]:
    """Length limits: the longest any row may get (the callback ends shorter ones), and the shortest."""
    extra = feed.forced if feed.counts_forced else (0,) * len(feed.rows)
    longest = max(length + forced for length, forced in zip(cohort.max_tokens, extra, strict=False))
    shortest = cohort.params.min_tokens
    if shortest:
        shortest += extra[0]
    return {"max_length": longest, "min_length": min(shortest, longest)}


def _by_length(cohort: Cohort) -> list[list[int]]:
    """Rows of equal prompt length together."""
    lengths = [len(prompt) for prompt in cohort.prompts]
    return [[i for i, n in enumerate(lengths) if n == length] for length in sorted(set(lengths))]


def _part(cohort: Cohort, rows: list[int]) -> Cohort:
    """The cohort's `rows` as a cohort."""
    return replace(
        cohort, prompts=[cohort.prompts[i] for i in rows], max_tokens=[cohort.max_tokens[i] for i in rows]
    )

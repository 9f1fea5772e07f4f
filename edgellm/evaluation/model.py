"""A bundle opened to score text: logits at the positions of a sequence, from any executor that can."""

from __future__ import annotations

from types import TracebackType

import numpy as np

from edgellm.backends import LoadOptions, get_backend
from edgellm.backends.executor import (
    Executor,
    Float32s,
    Int32s,
    SequenceLogits,
    StepExecutor,
    StepInput,
)
from edgellm.bundle import Bundle
from edgellm.errors import UnsupportedError

_STEP_VALUES = 1 << 25
"""Logits that one step gives at most."""


class ScoredModel:
    """An executor for one sequence at a time; a context manager.

    Attributes:
        max_tokens: the longest sequence it takes. vocab_size: entries of a row of logits.
    """

    def __init__(self, bundle: Bundle, *, window: int, threads: int | None, kv: str | None = None) -> None:
        """Load the bundle for sequences of `window` tokens, or of its context if that is shorter.

        Args:
            kv: what the key/value cache holds; None: the bundle's default.

        Raises:
            UnsupportedError: its backend gives no logits. BundleError, MissingDependencyError: see `Engine`.
        """
        manifest = bundle.manifest
        options = LoadOptions(
            threads=threads, max_batch=1, context=min(window, manifest.context), workers=1, kv=kv
        )
        executor: Executor = get_backend(manifest.backend).load(bundle, options)
        if executor.mode == "request" and not isinstance(executor, SequenceLogits):
            executor.close()
            raise UnsupportedError(
                f"the {manifest.backend} backend of {bundle.path} gives text but no logits, so it cannot be "
                "evaluated; build the model for another backend"
            )
        self._executor = executor
        self.vocab_size = executor.limits.vocab_size
        self.max_tokens = executor.limits.context
        if isinstance(executor, SequenceLogits):
            self.max_tokens = min(self.max_tokens, executor.max_logits_tokens)

    def logits(self, token_ids: Int32s, first: int) -> Float32s:
        """Logits float32[n - first, vocab] that predict tokens `first` to n - 1 of `token_ids` int32[n]."""
        if isinstance(self._executor, SequenceLogits):
            logits = self._executor.sequence_logits(token_ids[:-1].tolist())
            # A view would keep the memory of all rows.
            return logits[first - 1 :].copy() if first > 1 else logits
        assert self._executor.mode == "step"
        return step_logits(self._executor, token_ids[:-1], first - 1)

    def __enter__(self) -> ScoredModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.close()


def step_logits(executor: StepExecutor, token_ids: Int32s, first: int) -> Float32s:
    """Logits float32[n - first, vocab] of rows `first` on, in chunks, the blocks of the cache in order."""
    limits, n = executor.limits, len(token_ids)
    out = np.empty((n - first, limits.vocab_size), np.float32)
    chunk = max(1, min(limits.max_step_tokens, _STEP_VALUES // limits.vocab_size))
    table = np.arange(-(-n // limits.block_size), dtype=np.int32)
    for start in range(0, n, chunk):
        end = min(n, start + chunk)
        rows = np.arange(max(start, first), end, dtype=np.int32)
        logits = executor.step(
            StepInput(
                token_ids=np.ascontiguousarray(token_ids[start:end]),
                positions=np.arange(start, end, dtype=np.int32),
                seq_starts=np.array([0, end - start], np.int32),
                context_lens=np.array([end], np.int32),
                block_tables=table[None, : -(-end // limits.block_size)].copy(),
                logits_rows=rows - np.int32(start),
            )
        )
        out[rows - first] = logits
    return out

"""What an executor is to the engine: the two interfaces a backend can offer.

A `StepExecutor` runs one step of any mix of sequences and gives logits back; the engine schedules and
samples (true continuous batching). A `RequestExecutor` runs a cohort of whole requests by itself, for
libraries without a step interface; rows leave as they finish, none can join.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from edgellm.backends.memory import MemoryPlan
from edgellm.backends.params import SamplingParams

Int32s = NDArray[np.int32]
Float32s = NDArray[np.float32]

TokenCallback = Callable[[int, int, float | None], bool]
"""(row, token id, log-probability or None) -> True to end that row; called from the executor's thread."""


@dataclass(frozen=True)
class ExecutorLimits:
    """Sizes that the engine must respect.

    Attributes:
        vocab_size: entries of a row of logits.
        context: tokens one sequence may hold.
        max_batch: sequences that run together.
        workers: cohorts that can run at the same time (always 1 for a step executor).
        block_size, num_blocks: tokens in one key/value block, and how many blocks there are (step only).
        max_step_tokens: tokens one step can take in (step only).
    """

    vocab_size: int
    context: int
    max_batch: int
    workers: int = 1
    block_size: int = 0
    num_blocks: int = 0
    max_step_tokens: int = 0


@dataclass
class StepInput:
    """One step: `n` tokens of `b` sequences, flattened, each sequence's tokens together and in order.

    Attributes:
        token_ids: int32[n].
        positions: int32[n], position of each token in its sequence, from 0.
        seq_starts: int32[b + 1], where each sequence's tokens begin in `token_ids`; the last entry is n.
        context_lens: int32[b], tokens of each sequence in the cache once this step has run.
        block_tables: int32[b, m], the blocks of each sequence in order; unused entries are -1.
            Token at position p lives in block table[p // block_size], slot p % block_size.
        logits_rows: int32[r], indices into `token_ids` at which logits are wanted.
    """

    token_ids: Int32s
    positions: Int32s
    seq_starts: Int32s
    context_lens: Int32s
    block_tables: Int32s
    logits_rows: Int32s


class StepExecutor(Protocol):
    """Runs steps. Called from one thread only."""

    mode: Literal["step"]
    limits: ExecutorLimits
    memory: MemoryPlan | None
    """What it takes; None where nobody has planned it."""

    def step(self, step: StepInput) -> Float32s:
        """Write keys and values of the step's tokens into their blocks; logits float32[r, vocab_size].

        The caller may change the returned array.
        """
        ...

    def copy_block(self, source: int, target: int) -> None:
        """Copy the keys and values of block `source`, all layers, over those of block `target`."""
        ...

    def close(self) -> None: ...


@dataclass
class Cohort:
    """Requests that run together: same sampling settings, similar prompt lengths.

    Attributes:
        prompts: token ids of each row, never empty.
        params: the settings shared by all rows (`max_tokens`, stops and `seed` apart: see below).
        max_tokens: new tokens at most, of each row.
        end_ids: tokens that end a row, not reported to the callback; empty with `ignore_eos`.
        seed: set only when the cohort has one row.
    """

    prompts: Sequence[Sequence[int]]
    params: SamplingParams
    max_tokens: Sequence[int]
    end_ids: Sequence[int] = field(default_factory=tuple)
    seed: int | None = None


class RequestExecutor(Protocol):
    """Runs cohorts. `run` is called from `limits.workers` threads at once."""

    mode: Literal["request"]
    limits: ExecutorLimits
    memory: MemoryPlan | None
    """As for a step executor."""
    supported: frozenset[str]
    """Names of the `SamplingParams` fields that are honoured, beyond those the engine itself handles
    (max_tokens, stop, stop_token_ids, ignore_eos). Others must be at their defaults."""
    costly: frozenset[str]
    """Those of `supported` that slow a request down so much that only an explicit wish turns them on:
    a checkpoint's default for them is dropped."""

    def run(self, cohort: Cohort, on_token: TokenCallback) -> None:
        """Generate every row to its end; blocks. `on_token` sees each new token but end tokens."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class SequenceLogits(Protocol):
    """What a request executor may offer besides, so that `edgellm eval` can score text with it. (A step
    executor needs no more than `step`.)
    """

    max_logits_tokens: int
    """The longest sequence for which `sequence_logits` is exact."""

    def sequence_logits(self, token_ids: Sequence[int]) -> Float32s:
        """Logits float32[n, vocab_size]: row i scores the token that follows `token_ids[: i + 1]`."""
        ...


@runtime_checkable
class TopLogits(Protocol):
    """What a step executor may offer besides: to bring back the largest logits only, where no request of a
    step needs more.
    """

    top: int
    """How many of each row; 0: this one cannot after all."""

    def step_top(self, step: StepInput) -> tuple[Float32s, Int32s]:
        """As `step`: the largest logits float32[r, top] and their tokens int32[r, top], largest first, equal
        ones by the lower token. The caller may change the arrays.
        """
        ...


Executor = StepExecutor | RequestExecutor

"""The cohort loop: groups waiting requests for executors that run whole requests by themselves.

A free worker takes the oldest waiting request and all others that fit to it: the same sampling settings
and about the same prompt length. The oldest is always in, so nothing starves.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence as SequenceOf
from dataclasses import replace

from edgellm.backends.executor import Cohort, RequestExecutor
from edgellm.backends.params import SamplingParams
from edgellm.engine.generation import TokenLogprob
from edgellm.engine.sequence import Sequence
from edgellm.errors import ExecutorError

GATHER_SECONDS = 0.002
"""How long a worker waits for company before it starts the first request of a burst."""

MIN_LENGTH_SLACK = 16
"""Prompts of a cohort may differ by this many tokens or a quarter of the oldest one's length: tokens beyond
the shortest prompt are fed one by one, so much longer ones do better in a cohort of their own."""


class CohortLoop:
    """One thread per worker of the executor, over one queue."""

    def __init__(self, executor: RequestExecutor) -> None:
        self._executor = executor
        self._queue: list[Sequence] = []
        self._running: set[Sequence] = set()
        self._changed = threading.Condition()
        self._closing = False
        self._threads = [
            threading.Thread(target=self._run, name=f"edgellm-cohorts-{i}", daemon=True)
            for i in range(executor.limits.workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, sequences: SequenceOf[Sequence]) -> None:
        """Queue new sequences; those of one call can share a cohort."""
        with self._changed:
            self._queue.extend(sequences)
            self._changed.notify_all()

    def cancel(self, sequence: Sequence) -> None:
        """Drop a waiting sequence; a running one leaves its cohort at its next token."""
        with self._changed:
            if sequence in self._queue:
                self._queue.remove(sequence)

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def close(self) -> None:
        """Cancel everything and wait for the workers."""
        with self._changed:
            self._closing = True
            for sequence in self._queue:
                sequence.finish("cancelled")
            self._queue.clear()
            for sequence in self._running:
                sequence.cancelled = True
            self._changed.notify_all()
        for thread in self._threads:
            if thread is not threading.current_thread():  # garbage can be collected in any thread
                thread.join()

    def _run(self) -> None:
        while (cohort := self._take()) is not None:
            self._generate(cohort)
            del cohort  # an idle loop keeps no finished sequence (and its engine) alive

    def _take(self) -> list[Sequence] | None:
        """Wait for requests, take the oldest and those that fit to it; None when closing."""
        limit = self._executor.limits.max_batch
        with self._changed:
            while not self._queue:
                if self._closing:
                    return None
                self._changed.wait()
            deadline = self._queue[0].generation.submitted_at + GATHER_SECONDS
            while self._queue and len(self._queue) < limit:
                if (left := deadline - time.perf_counter()) <= 0 or self._closing:
                    break
                self._changed.wait(left)
            if not self._queue:
                return [] if not self._closing else None
            oldest = self._queue[0]
            cohort = [oldest]
            if oldest.params.seed is None or oldest.params.greedy:
                cohort += [s for s in self._queue[1:] if _fits(s, oldest)][: limit - 1]
            taken = set(cohort)
            self._queue = [s for s in self._queue if s not in taken]
            self._running |= taken
            return cohort

    def _generate(self, sequences: list[Sequence]) -> None:
        if not sequences:
            return
        first = sequences[0]

        def on_token(row: int, token_id: int, logprob: float | None) -> bool:
            sequence = sequences[row]
            scored = None if logprob is None else TokenLogprob(token_id, logprob)
            ended = sequence.accept(token_id, scored) is not None
            if ended:
                self._leave(sequence)
            return ended

        cohort = Cohort(
            prompts=[s.generation.prompt_ids for s in sequences],
            params=first.params,
            max_tokens=[s.max_tokens for s in sequences],
            end_ids=tuple(first.end_ids),
            seed=None if first.params.greedy else first.params.seed,
        )
        try:
            self._executor.run(cohort, on_token)
            for sequence in sequences:
                if sequence in self._running:
                    sequence.finish("cancelled" if sequence.cancelled else "stop")
        except Exception as error:
            if not isinstance(error, ExecutorError):
                error = ExecutorError(f"the executor failed: {error}")
            for sequence in sequences:
                sequence.generation.fail(error)
        finally:
            for sequence in sequences:
                self._leave(sequence)

    def _leave(self, sequence: Sequence) -> None:
        with self._changed:
            self._running.discard(sequence)


def _fits(sequence: Sequence, oldest: Sequence) -> bool:
    """Whether `sequence` may run in the cohort of `oldest`."""
    slack = max(MIN_LENGTH_SLACK, oldest.prompt_len // 4)
    return (
        _shared(sequence.params) == _shared(oldest.params)
        and abs(sequence.prompt_len - oldest.prompt_len) <= slack
    )


def _shared(params: SamplingParams) -> SamplingParams:
    """The settings that all rows of a cohort have in common: all but what ends a row, and unused seeds."""
    seed = None if params.greedy else params.seed
    return replace(params, max_tokens=None, stop=(), stop_token_ids=(), seed=seed)

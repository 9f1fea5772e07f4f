"""The step loop: one thread that schedules, runs and samples steps of a step executor."""

from __future__ import annotations

import threading
from collections.abc import Sequence as SequenceOf

import numpy as np

from edgellm.backends.executor import StepExecutor, StepInput, TopLogits
from edgellm.engine.sampling import UNSOUND, Choice, choose, choose_top, enough
from edgellm.engine.scheduler import Chunk, StepScheduler
from edgellm.engine.sequence import Sequence
from edgellm.errors import DeviceLostError, ExecutorError


class StepLoop:
    """Runs sequences to their ends. Between any two steps a sequence can join, leave or be cancelled.

    Attributes:
        failure: why no step can be run any more.
    """

    def __init__(self, executor: StepExecutor, *, prefix_cache: bool = True) -> None:
        self.scheduler = StepScheduler(executor.limits, prefix_cache=prefix_cache)
        self.steps = 0
        self.failure: DeviceLostError | None = None
        self._executor = executor
        self._top = executor if isinstance(executor, TopLogits) and executor.top else None
        self._arrived: list[Sequence] = []
        self._wake = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="edgellm-steps", daemon=True)
        self._thread.start()

    def submit(self, sequences: SequenceOf[Sequence]) -> None:
        """Queue new sequences; they can be part of the very next step.

        Raises:
            DeviceLostError: `failure`.
        """
        with self._wake:
            if self.failure is not None:
                raise self.failure
            self._arrived.extend(sequences)
            self._wake.notify()

    def cancel(self, sequence: Sequence) -> None:
        """Wake the loop, which lets go of sequences marked as cancelled."""
        with self._wake:
            self._wake.notify()

    @property
    def running(self) -> int:
        return len(self.scheduler.running)

    @property
    def waiting(self) -> int:
        return len(self.scheduler.waiting) + len(self._arrived)

    def close(self) -> None:
        """Stop after the step that is running, cancel what is left, and wait for the thread."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread is not threading.current_thread():  # garbage can be collected in any thread
            self._thread.join()

    def _run(self) -> None:
        while self._collect():
            self._step()
        for sequence in [*self.scheduler.running, *self.scheduler.waiting, *self._arrived]:
            sequence.finish("cancelled")

    def _step(self) -> None:
        # A method of its own, so that an idle loop keeps no finished sequence (and its engine) alive.
        schedule = self.scheduler.schedule()
        if schedule.chunks:
            try:
                for source, target in schedule.copies:
                    self._executor.copy_block(source, target)
                sampled = [chunk.sequence for chunk in schedule.chunks if chunk.ends_at_last_token]
                choices = self._choose(self._pack(schedule.chunks), sampled)
                self.steps += 1
                self._advance(schedule.chunks, sampled, choices)
            except Exception as error:
                self._fail_running(error)

    def _collect(self) -> bool:
        """Take arrivals in and cancelled sequences out; wait while idle. False when closing."""
        scheduler = self.scheduler
        with self._wake:
            while True:
                for sequence in self._arrived:
                    scheduler.add(sequence)
                self._arrived.clear()
                for sequence in [s for s in (*scheduler.running, *scheduler.waiting) if s.cancelled]:
                    scheduler.remove(sequence)
                if self._closing:
                    return False
                if scheduler.running or scheduler.waiting:
                    return True
                self._wake.wait()

    def _pack(self, chunks: list[Chunk]) -> StepInput:
        """Flatten the chunks into the arrays of a step."""
        counts = [chunk.count for chunk in chunks]
        starts = np.zeros(len(chunks) + 1, np.int32)
        np.cumsum(counts, out=starts[1:])
        token_ids = np.empty(starts[-1], np.int32)
        positions = np.empty(starts[-1], np.int32)
        tables = np.full((len(chunks), max(len(c.sequence.blocks) for c in chunks)), -1, np.int32)
        context_lens = np.empty(len(chunks), np.int32)
        rows = []
        for i, chunk in enumerate(chunks):
            sequence, first, last = chunk.sequence, starts[i], starts[i + 1]
            end = sequence.computed + chunk.count
            token_ids[first:last] = sequence.tokens[sequence.computed : end]
            positions[first:last] = np.arange(sequence.computed, end)
            tables[i, : len(sequence.blocks)] = sequence.blocks
            context_lens[i] = end
            if chunk.ends_at_last_token:
                rows.append(last - 1)
        return StepInput(token_ids, positions, starts, context_lens, tables, np.array(rows, np.int32))

    def _choose(self, step: StepInput, sampled: list[Sequence]) -> list[Choice]:
        """Run a step; the next tokens of the sequences that end in it."""
        if self._top is not None and all(enough(one, self._top.top) for one in sampled):
            return choose_top(*self._top.step_top(step), sampled)
        return choose(self._executor.step(step), sampled)

    def _advance(self, chunks: list[Chunk], sampled: list[Sequence], choices: list[Choice]) -> None:
        """Note what was computed and chosen, and let finished sequences go."""
        for chunk in chunks:
            self.scheduler.advance(chunk)
        for sequence, (token, logprob) in zip(sampled, choices, strict=True):
            if token == UNSOUND:
                self._fail_unsound(sequence)
            elif sequence.accept(token, logprob) is not None:
                self.scheduler.remove(sequence)

    def _fail_unsound(self, sequence: Sequence) -> None:
        """The model gave no numbers: this answer ends, and what it left in the cache is not shared."""
        self.scheduler.remove(sequence)
        self.scheduler.pool.forget()
        sequence.generation.fail(
            ExecutorError(
                "the model's logits are not numbers: 16-bit floats overflowed, or a kernel or driver is "
                "faulty. Run edgellm verify on the bundle, and take its fp32 program or an fp32 build"
            )
        )

    def _fail_running(self, error: Exception) -> None:
        """A step failed: its sequences end with the error, the cache is emptied, the queue goes on.

        Without a device the queue ends as well.
        """
        if not isinstance(error, ExecutorError):
            error = ExecutorError(f"a step of the executor failed: {error}")
        failed = list(self.scheduler.running)
        if isinstance(error, DeviceLostError):
            with self._wake:
                self.failure = error
                for sequence in self._arrived:
                    self.scheduler.add(sequence)
                self._arrived.clear()
            failed += self.scheduler.waiting
        for sequence in failed:
            self.scheduler.remove(sequence)
            sequence.generation.fail(error)
        self.scheduler.pool.forget()

"""The step executor over a plan and a host: packs a step's inputs, runs the routine, brings logits back."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Literal

import numpy as np

from edgellm.backends.executor import ExecutorLimits, Float32s, Int32s, StepInput
from edgellm.backends.memory import MemoryPlan
from edgellm.backends.plan.host import Host, StepTimes
from edgellm.backends.plan.launches import block_bytes
from edgellm.compile.plan.plan import Plan, Rotary
from edgellm.errors import ExecutorError

BLOCK_SIZE = 16


class PlanExecutor:
    """See `StepExecutor`."""

    mode: Literal["step"] = "step"

    def __init__(
        self,
        plan: Plan,
        host: Host,
        limits: ExecutorLimits,
        sizes: Mapping[str, int],
        memory: MemoryPlan | None,
    ) -> None:
        """Take over `host`, whose buffers have been made for `sizes`."""
        self.host: Host | None = host
        self.limits, self.memory = limits, memory
        self.plan = plan
        self.decoding = StepTimes()
        """Of steps with one token of each sequence."""
        self._ended = time.perf_counter()
        self._rows = sizes["r"]
        self._fixed = {name: size for name, size in sizes.items() if name not in ("n", "b", "m", "r")}
        [logits] = [one for one in plan.buffers if one.name == "logits"]
        self._vocabulary = int(logits.shape[1])
        shapes = {one.name: one.shape for one in plan.buffers if one.kind == "output"}
        self.top = int(shapes["top"][1]) if {"top", "top_ids"} <= set(shapes) else 0
        self._blocks = block_bytes(plan)
        for rotary in plan.rotary:
            host.write(rotary.table, rotary_table(rotary, sizes["context"]))

    def step(self, step: StepInput) -> Float32s:
        """See `StepExecutor.step`."""
        [logits] = self._rows_of(step, {"logits": self._vocabulary})
        return logits[:, : self.limits.vocab_size]

    def step_top(self, step: StepInput) -> tuple[Float32s, Int32s]:
        """See `TopLogits.step_top`."""
        top, ids = self._rows_of(step, {"top": self.top, "top_ids": self.top})
        return top, ids.view(np.int32)

    def copy_block(self, source: int, target: int) -> None:
        """See `StepExecutor.copy_block`."""
        self._opened().copy(self._blocks, source, target)

    def close(self) -> None:
        """Let go of the device."""
        if self.host is not None:
            self.host.close()
        self.host = None

    def _rows_of(self, step: StepInput, widths: Mapping[str, int]) -> list[Float32s]:
        """Run a step; rows of each output, of the given widths."""
        rows, most = step.logits_rows, self._rows
        # What a step writes to the cache depends on its input alone, so it can run again for more rows.
        parts = [self._run(step, rows[at : at + most], widths) for at in range(0, max(1, len(rows)), most)]
        joined = parts[0] if len(parts) == 1 else [np.concatenate(one) for one in zip(*parts, strict=True)]
        return [one[: len(rows)] for one in joined]

    def _run(self, step: StepInput, rows: Int32s, widths: Mapping[str, int]) -> list[Float32s]:
        start = time.perf_counter()
        count, sequences = len(step.token_ids), len(step.context_lens)
        sequence = np.repeat(np.arange(sequences, dtype=np.int32), np.diff(step.seq_starts))
        blocks = step.block_tables[sequence, step.positions // BLOCK_SIZE]
        tokens = np.empty((count, 4), np.int32)
        tokens[:, 0] = step.token_ids
        tokens[:, 1] = step.positions
        tokens[:, 2] = blocks * BLOCK_SIZE + step.positions % BLOCK_SIZE
        tokens[:, 3] = sequence
        if not len(rows):
            rows = np.zeros(1, np.int32)
        inputs = {
            "tokens": tokens,
            "tables": np.maximum(step.block_tables, 0).astype(np.int32, copy=False),
            "rows": rows.astype(np.int32, copy=False),
        }
        sizes = self._fixed | {
            "n": count, "b": sequences, "m": step.block_tables.shape[1], "r": len(rows),
        }  # fmt: skip
        host = self._opened()
        found = host.run(inputs, sizes, {name: len(rows) * width for name, width in widths.items()})
        results = [found[name].reshape(len(rows), width) for name, width in widths.items()]
        ended = time.perf_counter()
        if count == sequences:
            times = self.decoding
            times.steps += 1
            times.between += start - self._ended
            times.total += ended - start
            times.submit += host.submitted - start
            times.wait += host.waited
        self._ended = ended
        return results

    def _opened(self) -> Host:
        if self.host is None:
            raise ExecutorError("this executor has been closed; open the bundle again")
        return self.host


def rotary_table(rotary: Rotary, context: int) -> Float32s:
    """float32[context, 2 * pairs]: cosines, then sines of each position."""
    angles = np.outer(np.arange(context, dtype=np.float64), rotary.frequencies)
    values = np.concatenate([np.cos(angles), np.sin(angles)], axis=1) * rotary.factor
    return values.astype(np.float32)

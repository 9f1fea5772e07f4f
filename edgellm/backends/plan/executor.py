"""The step executor over a plan and a host: packs a step's inputs, runs the routine, brings logits back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from edgellm.backends.executor import ExecutorLimits, Float32s, StepInput
from edgellm.backends.rotary import attention_factor, frequencies
from edgellm.bundle.model_config import ModelConfig, Rope
from edgellm.compile.plan.plan import Plan

BLOCK_SIZE = 16


class Host(Protocol):
    """Runs plans on a device. Buffers have the plan's names."""

    def write(self, name: str, values: NDArray[Any]) -> None:
        """Fill the beginning of an input buffer."""
        ...

    def run(self, sizes: Mapping[str, int]) -> None:
        """Run the first routine that holds a step of these sizes."""
        ...

    def read(self, name: str, count: int) -> Float32s:
        """The first `count` float32 numbers of an output."""
        ...

    def close(self) -> None: ...


class PlanExecutor:
    """See `StepExecutor`."""

    mode: Literal["step"] = "step"

    def __init__(
        self, plan: Plan, host: Host, config: ModelConfig, *, context: int, built_context: int, max_batch: int,
        num_blocks: int,
    ) -> None:  # fmt: skip
        self._host, self._config = host, config
        self.memory = None
        self._vocabulary = -(-config.vocab_size // 64) * 64
        self._fixed = {"context": context, "blocks": num_blocks}
        self.limits = ExecutorLimits(
            vocab_size=config.vocab_size, context=context, max_batch=max_batch, block_size=BLOCK_SIZE,
            num_blocks=num_blocks, max_step_tokens=plan.sizes["n"],
        )  # fmt: skip
        self._rows = plan.sizes["r"]
        for name, rope in (("angles", config.rope), ("local_angles", config.local_rope)):
            if rope is not None:
                host.write(name, _angles(rope, built_context, context))

    def step(self, step: StepInput) -> Float32s:
        """See `StepExecutor.step`."""
        host = self._host
        n, b = len(step.token_ids), len(step.context_lens)
        sequence = np.repeat(np.arange(b, dtype=np.int32), np.diff(step.seq_starts))
        blocks = step.block_tables[sequence, step.positions // BLOCK_SIZE]
        slots = blocks * BLOCK_SIZE + step.positions % BLOCK_SIZE
        host.write("tokens", np.stack([step.token_ids, step.positions, slots, sequence], 1).astype(np.int32))
        host.write("tables", np.maximum(step.block_tables, 0))
        rows = step.logits_rows if len(step.logits_rows) else np.zeros(1, np.int32)
        host.write("rows", rows)
        sizes = self._fixed | {"n": n, "b": b, "m": step.block_tables.shape[1], "r": len(rows)}
        host.run(sizes)
        logits = host.read("logits", len(rows) * self._vocabulary).reshape(len(rows), -1)
        return logits[: len(step.logits_rows), : self._config.vocab_size]

    def close(self) -> None:
        self._host.close()


def _angles(rope: Rope, built_context: int, context: int) -> Float32s:
    """float32[context, dim]: cosines, then sines of each position."""
    angles = np.outer(np.arange(context, dtype=np.float64), frequencies(rope, built_context))
    factor = attention_factor(rope)
    return np.concatenate([np.cos(angles) * factor, np.sin(angles) * factor], axis=1).astype(np.float32)

"""Golden cases built for the TVM backend, each once a session, for one instruction set to save time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from edgellm.backends.base import BuildPlan
from edgellm.backends.executor import Float32s, StepExecutor, StepInput
from edgellm.backends.tvm import build as build_module
from edgellm.backends.tvm.executor import TvmExecutor
from edgellm.checkpoint import Checkpoint
from edgellm.compile.heads import CacheType, cache_types
from tests.compile.kernels import HERE
from tests.golden.cases import CASES, CONTEXT, golden


@cache
def _root() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="edgellm-tvm-tests-")


def executor(
    name: str, quant: str = "int8", isa: str = HERE[0].name, kv: CacheType | None = None
) -> TvmExecutor:
    """Golden case `name`, built and loaded with room for four sequences."""
    return _executor(name, quant, isa, kv)


@cache
def _executor(name: str, quant: str, isa: str, kv: CacheType | None) -> TvmExecutor:
    source = Path(_root().name) / f"{name}-checkpoint"
    if not source.exists():
        CASES[name].make(source, golden(name).seed)
    return build(source, Path(_root().name) / f"{name}-{quant}-{isa}-{kv}", quant, isa, CONTEXT, kv)


def build(
    source: Path, out: Path, quant: str, isa: str, context: int, kv: CacheType | None = None
) -> TvmExecutor:
    """The checkpoint in `source`, built into the new directory `out` and loaded; code for one instruction set
    and one type of cache (None: the default) saves time.
    """
    out.mkdir()
    chosen = tuple(one for one in HERE if one.name == isa)
    kv = kv or cache_types(quant)[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build_module, "ISAS", {"x86-64": chosen})
        patch.setattr(build_module, "cache_types", lambda quant: (kv,))
        with Checkpoint.open(source) as checkpoint:
            plan = BuildPlan("x86-64", quant, context)
            build_module.write_model(checkpoint, plan, out, lambda *at: None)
            config = checkpoint.config
    return TvmExecutor(out, config, built_context=context, context=context, max_batch=4, threads=2)


class Sequences:
    """Feeds sequences to an executor in any pieces, as an engine would."""

    def __init__(self, executor: StepExecutor, seed: int = 0) -> None:
        self.executor = executor
        blocks = np.random.default_rng(seed).permutation(executor.limits.num_blocks)
        self._free = blocks.astype(np.int32).tolist()
        self._tables: dict[int, list[int]] = {}
        self._done: dict[int, int] = {}

    def step(self, pieces: dict[int, list[int]]) -> dict[int, Float32s]:
        """Tokens to add to each sequence -> logits float32[tokens, vocab] of each."""
        starts = np.cumsum([0, *(len(piece) for piece in pieces.values())]).astype(np.int32)
        positions, lens = [], []
        for sequence, piece in pieces.items():
            done = self._done.get(sequence, 0)
            self._done[sequence] = done + len(piece)
            table = self._tables.setdefault(sequence, [])
            while len(table) * 16 < done + len(piece):
                table.append(self._free.pop())
            positions += range(done, done + len(piece))
            lens.append(done + len(piece))
        tables = np.full((len(pieces), max(len(self._tables[s]) for s in pieces)), -1, np.int32)
        for row, sequence in enumerate(pieces):
            tables[row, : len(self._tables[sequence])] = self._tables[sequence]
        logits = self.executor.step(
            StepInput(
                np.array([token for piece in pieces.values() for token in piece], np.int32),
                np.array(positions, np.int32),
                starts,
                np.array(lens, np.int32),
                tables,
                np.arange(starts[-1], dtype=np.int32),
            )
        )
        return {s: logits[starts[i] : starts[i + 1]] for i, s in enumerate(pieces)}


def mixed(executor: StepExecutor) -> Iterator[tuple[int, Float32s, Float32s]]:
    """Random mixes of chunks and decodes of four sequences: for each piece (sequence, its logits float32[n,
    vocab] in company, and those where each sequence is computed at once and alone).
    """
    rng = np.random.default_rng(7)
    lengths = (88, 61, 17, 33)
    texts = [rng.integers(5, 380, length).tolist() for length in lengths]
    alone = [Sequences(executor, seed).step({0: text})[0] for seed, text in enumerate(texts)]
    together, done = Sequences(executor, 9), [0] * 4
    while any(done[i] < lengths[i] for i in range(4)):
        pieces = {}
        for i in rng.permutation(4).tolist():
            size = min(lengths[i] - done[i], int(rng.choice([0, 1, 1, 2, 5, 16, 23])))
            if size:
                pieces[i] = texts[i][done[i] : done[i] + size]
        for i, logits in (together.step(pieces) if pieces else {}).items():
            yield i, logits, alone[i][done[i] : done[i] + len(logits)]
            done[i] += len(logits)


def rows(executor: StepExecutor, count: int, table: list[int], *wanted: int) -> Float32s:
    """Logits float32[wanted, vocab] of some of the `count` tokens of a sequence in one step."""
    ends = np.array([0, count], np.int32)
    places = np.arange(count, dtype=np.int32)
    tables = np.array([table], np.int32)
    return executor.step(StepInput(places + 5, places, ends, ends[1:], tables, np.array(wanted, np.int32)))

"""Attention over the paged cache, against numpy in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from edgellm.backends.executor import StepInput
from edgellm.backends.tvm.items import items
from edgellm.compile.heads import BLOCK_SIZE, Heads
from edgellm.compile.isa import Isa
from tests.compile.cache import read_cache, spoiled_cache, write_cache
from tests.compile.kernels import HERE, compiled, dequantized, tensors


@dataclass
class Mix:
    """Sequences with `before` tokens in the cache and `now` tokens in this step."""

    before: list[int]
    now: list[int]

    def step(self, rng: np.random.Generator) -> StepInput:
        starts = np.cumsum([0, *self.now]).astype(np.int32)
        positions = [np.arange(b, b + n) for b, n in zip(self.before, self.now, strict=True)]
        lens = np.array(self.before) + np.array(self.now)
        blocks = -(-lens // BLOCK_SIZE)
        order = rng.permutation(blocks.sum() + 3).astype(np.int32)
        tables = np.full((len(lens), blocks.max() + 1), -1, np.int32)
        for row, count in enumerate(blocks):
            tables[row, :count], order = order[:count], order[count:]
        n = int(starts[-1])
        ids, rows = np.zeros(n, np.int32), np.zeros(0, np.int32)
        return StepInput(
            ids, np.concatenate(positions).astype(np.int32), starts, lens.astype(np.int32), tables, rows
        )


class Case:
    """A kernel, and a filled cache with more blocks than any mix takes; unused ones hold huge numbers."""

    def __init__(self, isa: Isa, heads: Heads, window: int | None, zero: int | None = None) -> None:
        from edgellm.compile.kernels.activations import Float32Activations, Int8Activations
        from edgellm.compile.kernels.attention import attention, output_form

        self.heads, self.window = heads, window
        self.form = output_form(heads, Int8Activations(zero) if zero else Float32Activations())
        self.kernel = compiled(attention(isa, heads, "f", window=window, form=self.form), isa)
        self.rng = np.random.default_rng(heads.dim + (window or 0))

    def fill(self, step: StepInput) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Queries float32[n, heads, dim], and the caches of keys and values."""
        blocks = int(step.block_tables.max()) + 4
        keys, values = spoiled_cache(self.heads, blocks), spoiled_cache(self.heads, blocks)
        for table, length in zip(step.block_tables, step.context_lens, strict=True):
            for position in range(length):
                slot = int(table[position // BLOCK_SIZE]) * BLOCK_SIZE + position % BLOCK_SIZE
                key, value = self.rng.standard_normal((2, self.heads.kv_heads, self.heads.dim))
                write_cache(self.heads, keys, values, slot, key, value)
        shape = (len(step.positions), self.heads.heads, self.heads.dim)
        return (self.rng.standard_normal(shape) * 0.5).astype(np.float32), keys, values

    def run(self, step: StepInput, work: np.ndarray, *arrays: np.ndarray) -> list[np.ndarray]:
        q, keys, values = arrays
        n, width = len(q), self.heads.heads * self.heads.dim
        out = [np.full(shape, 77, dtype) for _, shape, dtype in self.form.arrays(n, width)]
        given = tensors(q.reshape(n, width), keys, values, work, step.block_tables)
        results = tensors(*out)
        self.kernel(*given, *results)
        return [one.numpy() for one in results]

    def expected(self, step: StepInput, q: np.ndarray, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
        out = np.empty(q.shape)
        group = self.heads.heads // self.heads.kv_heads
        for sequence, table in enumerate(step.block_tables):
            k, v = read_cache(self.heads, keys, values, table, int(step.context_lens[sequence]))
            for row in range(step.seq_starts[sequence], step.seq_starts[sequence + 1]):
                position = int(step.positions[row])
                first = max(0, position - self.window + 1) if self.window else 0
                for head in range(self.heads.heads):
                    seen = slice(first, position + 1)
                    scores = k[seen, head // group] @ q[row, head].astype(np.float64)
                    weights = np.exp(scores - scores.max())
                    out[row, head] = weights @ v[seen, head // group] / weights.sum()
        return out.reshape(len(q), -1)


MIXES = {
    "one token of one sequence": Mix([0], [1]),
    "a prompt": Mix([0], [37]),
    "decodes": Mix([5, 255, 256, 17], [1, 1, 1, 1]),
    "a chunk over the border of a span": Mix([243], [30]),
    "chunks and decodes": Mix([100, 0, 511, 3, 260], [7, 19, 1, 3, 2]),
    "a long context": Mix([1100], [1]),
    "a chunk of a long context": Mix([700], [5]),
}
HEADS = {
    "each its own": Heads(3, 3, 32, 32),
    "two share": Heads(4, 2, 64, 64),
    "all share": Heads(6, 1, 16, 16, "fp32"),
    "more share than fit": Heads(24, 2, 48, 48),
    "int8": Heads(4, 2, 64, 64, "int8"),
    "int8, narrow": Heads(3, 3, 16, 16, "int8"),
}


@pytest.mark.parametrize("window", [None, 20, 300])
@pytest.mark.parametrize("name", HEADS)
def test_mixes_of_every_kind(name: str, window: int | None) -> None:
    case = Case(HERE[0], HEADS[name], window)
    for what, mix in MIXES.items():
        step = mix.step(case.rng)
        arrays = case.fill(step)
        (got,) = case.run(step, items(step, case.heads, threads=2), *arrays)
        expected = case.expected(step, *arrays)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=5e-6, err_msg=what)


@pytest.mark.parametrize("isa", HERE[1:], ids=lambda isa: isa.name)
@pytest.mark.parametrize("name", ["two share", "int8"])
def test_every_instruction_set(isa: Isa, name: str) -> None:
    case = Case(isa, HEADS[name], 300)
    for what, mix in MIXES.items():
        step = mix.step(case.rng)
        arrays = case.fill(step)
        (got,) = case.run(step, items(step, case.heads, threads=2), *arrays)
        np.testing.assert_allclose(got, case.expected(step, *arrays), rtol=1e-5, atol=5e-6, err_msg=what)


def test_random_mixes() -> None:
    case, draw = Case(HERE[0], HEADS["two share"], None), np.random.default_rng(5)
    for _ in range(12):
        count = int(draw.integers(1, 7))
        mix = Mix(draw.integers(0, 600, count).tolist(), draw.integers(1, 40, count).tolist())
        step = mix.step(draw)
        arrays = case.fill(step)
        (got,) = case.run(step, items(step, case.heads, int(draw.integers(1, 9))), *arrays)
        np.testing.assert_allclose(got, case.expected(step, *arrays), rtol=1e-5, atol=5e-6, err_msg=str(mix))


@pytest.mark.parametrize("window", [None, 300])
@pytest.mark.parametrize("name", ["all share", "two share", "int8"])
def test_spans_taken_apart_give_the_same_bits(name: str, window: int | None) -> None:
    case = Case(HERE[0], HEADS[name], window)
    apart = 0
    for mix in MIXES.values():
        step = mix.step(case.rng)
        arrays = case.fill(step)
        (together,) = case.run(step, items(step, case.heads, threads=1), *arrays)
        for threads in (3, 5, 8, 64):
            work = items(step, case.heads, threads)
            apart += bool((work[:, 4] >= 0).any())
            (got,) = case.run(step, work, *arrays)
            assert np.array_equal(got, together), (mix, threads)
    assert apart, "no mix was split"


def test_rows_do_not_see_their_company() -> None:
    case = Case(HERE[0], HEADS["two share"], None)
    step = Mix([243], [30]).step(case.rng)
    arrays = case.fill(step)
    (whole,) = case.run(step, items(step, case.heads, 2), *arrays)
    for row in range(30):
        one = StepInput(
            step.token_ids[:1], step.positions[row : row + 1], np.array([0, 1], np.int32),
            step.positions[row : row + 1] + 1, step.block_tables, step.logits_rows,
        )  # fmt: skip
        (alone,) = case.run(one, items(one, case.heads, 2), arrays[0][row : row + 1], *arrays[1:])
        assert np.array_equal(alone[0], whole[row]), row


@pytest.mark.parametrize("isa", HERE, ids=lambda isa: isa.name)
def test_results_are_quantized_for_the_next_product(isa: Isa) -> None:
    case = Case(isa, Heads(6, 2, 32, 32), None, zero=8)
    step = Mix([40, 0], [3, 9]).step(case.rng)
    arrays = case.fill(step)
    codes, scales, corrections = case.run(step, items(step, case.heads, 2), *arrays)
    expected = case.expected(step, *arrays)
    steps = np.repeat(scales, 32, axis=1)
    assert (np.abs(dequantized(codes, scales) - expected) <= steps * 0.51 + 1e-6).all()
    assert np.array_equal(corrections, -8 * codes.reshape(len(codes), -1, 32).astype(int).sum(axis=-1))


def test_heads_that_are_no_whole_groups_stay_float() -> None:
    from edgellm.compile.kernels.activations import Float32Activations

    case = Case(HERE[0], HEADS["more share than fit"], None, zero=8)
    assert isinstance(case.form, Float32Activations)

"""A step's tokens as work items: each token and each span once, shared evenly."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgellm.backends.executor import StepInput
from edgellm.backends.tvm.items import items, slots
from edgellm.compile.heads import BLOCK_SIZE, SPAN, Heads

SEQUENCES = st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 70)), min_size=1, max_size=9)
HEADS = st.sampled_from(
    [Heads(32, 4, 64, 64), Heads(8, 1, 64, 64), Heads(3, 3, 32, 32), Heads(24, 2, 64, 64)]
)


def step_of(sequences: list[tuple[int, int]]) -> StepInput:
    """Sequences with so many tokens before, and so many now."""
    starts = np.cumsum([0, *(now for _, now in sequences)]).astype(np.int32)
    lens = np.array([before + now for before, now in sequences], np.int32)
    most = -(-int(lens.max()) // BLOCK_SIZE)
    tables = np.arange(len(sequences) * most, dtype=np.int32)[::-1].reshape(len(sequences), most)
    positions = np.concatenate([np.arange(b, b + n) for b, n in sequences]).astype(np.int32)
    return StepInput(np.zeros(starts[-1], np.int32), positions, starts, lens, tables, np.zeros(0, np.int32))


@settings(max_examples=150, deadline=None)
@given(SEQUENCES, HEADS, st.integers(1, 64))
def test_every_token_and_span_once(sequences: list[tuple[int, int]], heads: Heads, threads: int) -> None:
    step = step_of(sequences)
    work = items(step, heads, threads)
    assert work.dtype == np.int32
    covered = []
    for row, (first, count, sequence, position, span) in enumerate(work.tolist()):
        assert 1 <= count <= heads.item_tokens
        assert step.seq_starts[sequence] <= first and first + count <= step.seq_starts[sequence + 1]
        assert step.positions[first] == position
        if span <= 0:
            covered += range(first, first + count)
        if span > 0:
            assert work[row - 1].tolist() == [first, count, sequence, position, span - 1]
        if span >= 0:
            last = (position + count - 1) // SPAN
            assert span <= last
            if span < last:
                assert work[row + 1].tolist() == [first, count, sequence, position, span + 1]
    assert sorted(covered) == list(range(len(step.positions)))
    assert (work[:, 4] >= 0).all() or (work[:, 4] == -1).all()


def test_items_are_split_where_threads_would_wait() -> None:
    one, four = Heads(8, 1, 64, 64), Heads(32, 4, 64, 64)
    long, short = step_of([(1000, 1)]), step_of([(100, 1)])
    assert items(long, one, 2)[:, 4].tolist() == [0, 1, 2, 3]
    assert items(long, four, 8)[:, 4].tolist() == [0, 1, 2, 3]
    for step, heads, threads in ((long, four, 2), (long, four, 1), (short, one, 2), (long, one, 1)):
        assert items(step, heads, threads)[:, 4].tolist() == [-1], (heads, threads)
    many = step_of([(1000, 1)] * 9)
    assert (items(many, one, 2)[:, 4] == -1).all()


@settings(max_examples=60, deadline=None)
@given(SEQUENCES)
def test_slots_follow_the_tables(sequences: list[tuple[int, int]]) -> None:
    step = step_of(sequences)
    expected = [
        int(step.block_tables[i, p // BLOCK_SIZE]) * BLOCK_SIZE + p % BLOCK_SIZE
        for i, (before, now) in enumerate(sequences)
        for p in range(before, before + now)
    ]
    assert slots(step).tolist() == expected

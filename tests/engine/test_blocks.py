"""The block pool against a model of it, under random use: every slot's contents are tracked beside it."""

from __future__ import annotations

from dataclasses import dataclass, field

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edgellm.engine.blocks import ROOT, BlockPool

SIZE = 3
texts = st.lists(st.integers(0, 1), min_size=1, max_size=14)


@dataclass
class Holder:
    """A sequence as the scheduler keeps it: `computed` of its tokens are in its blocks."""

    tokens: list[int]
    blocks: list[int] = field(default_factory=list)
    node: int = ROOT
    sealed: int = 0
    computed: int = 0


class PoolMachine(RuleBasedStateMachine):
    """Sequences of random tokens take, fill, seal, shelve and release blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(8, SIZE)
        self.slots: dict[tuple[int, int], tuple[int, ...]] = {}
        """(block, place in it) -> the whole prefix whose last token was written there."""
        self.held: list[Holder] = []

    @rule(tokens=texts)
    def admit(self, tokens: list[int]) -> None:
        prefix = self.pool.match(tokens)
        holder = Holder(tokens, prefix.blocks, prefix.node, len(prefix.blocks), len(prefix.blocks) * SIZE)
        assert holder.computed + prefix.alike < len(tokens) and prefix.alike < SIZE
        self.held.append(holder)
        if (found := self.pool.follow(prefix)) is not None:
            block, source = found
            assert all(block not in other.blocks for other in self.held)
            for place in range(SIZE) if source != block else ():
                self.slots[block, place] = self.slots.get((source, place), ())
            holder.blocks.append(block)
            holder.computed += prefix.alike

    @rule(tokens=texts)
    def a_prompt_that_begins_like_another(self, tokens: list[int]) -> None:
        """What a second turn is: all that was computed is found again, unless it had to make room."""
        if self.held:
            self.admit([*self.held[-1].tokens, *tokens][:20])

    @rule(index=st.integers(0, 100), count=st.integers(1, 7))
    def compute(self, index: int, count: int) -> None:
        if not self.held:
            return
        holder = self.held[index % len(self.held)]
        for _ in range(min(count, len(holder.tokens) - holder.computed)):
            at, place = divmod(holder.computed, SIZE)
            if at == len(holder.blocks):
                if (block := self.pool.allocate()) is None:
                    return
                holder.blocks.append(block)
            written = holder.blocks[at]
            assert sum(written in other.blocks for other in self.held) == 1, "two holders of one block"
            holder.computed += 1
            self.slots[written, place] = tuple(holder.tokens[: holder.computed])
            if holder.computed % SIZE == 0:
                full = holder.tokens[at * SIZE : holder.computed]
                holder.blocks[at], holder.node = self.pool.seal(written, holder.node, full)
                holder.sealed += 1
                assert holder.node != ROOT

    @rule(index=st.integers(0, 100))
    def release(self, index: int) -> None:
        if self.held:
            self._release(self.held.pop(index % len(self.held)))

    @rule(index=st.integers(0, 100))
    def release_and_come_again(self, index: int) -> None:
        """Nothing is computed twice: all but the last token of a text just let go is found."""
        if self.held:
            holder = self.held.pop(index % len(self.held))
            self._release(holder)
            prefix = self.pool.match(holder.tokens)
            found = len(prefix.blocks) * SIZE + prefix.alike
            assert found >= min(holder.computed, len(holder.tokens) - 1)
            self.pool.release(prefix.blocks)

    @rule()
    def forget(self) -> None:
        """A failed step: everybody goes, and nothing may be found any more."""
        while self.held:
            self._release(self.held.pop())
        self.pool.forget()
        assert self.pool.match([0, 1] * 6).blocks == [] and self.pool.match([0, 1]).alike == 0

    def _release(self, holder: Holder) -> None:
        start = holder.sealed * SIZE
        if start < holder.computed:
            last = holder.tokens[start : holder.computed]
            self.pool.shelve(holder.blocks[holder.sealed], holder.node, last)
        self.pool.release(holder.blocks)

    @invariant()
    def every_block_is_accounted_for(self) -> None:
        assert self.pool.in_use == len({block for holder in self.held for block in holder.blocks})

    @invariant()
    def every_holder_finds_its_own_tokens(self) -> None:
        for holder in self.held:
            for at in range(holder.computed):
                place = (holder.blocks[at // SIZE], at % SIZE)
                assert self.slots[place] == tuple(holder.tokens[: at + 1])

    def teardown(self) -> None:
        for holder in self.held:
            self._release(holder)
        assert self.pool.available == self.pool.num_blocks
        assert sorted(b for b in iter(self.pool.allocate, None)) == list(range(self.pool.num_blocks))


TestBlockPool = PoolMachine.TestCase


def fill(pool: BlockPool, tokens: list[int]) -> None:
    """Compute a text and let it go."""
    blocks, node, size = [], ROOT, pool.block_size
    for start in range(0, len(tokens), size):
        block = pool.allocate()
        assert block is not None
        blocks.append(block)
        piece = tokens[start : start + size]
        if len(piece) == size:
            blocks[-1], node = pool.seal(block, node, piece)
        else:
            pool.shelve(block, node, piece)
    pool.release(blocks)


def test_blocks_computed_twice_at_the_same_time_become_one() -> None:
    pool = BlockPool(4, 2)
    mine, yours = pool.allocate(), pool.allocate()
    assert mine is not None and yours is not None
    assert pool.seal(mine, ROOT, [1, 2]) == (mine, node := pool.match([1, 2, 3]).node)
    assert pool.seal(yours, ROOT, [1, 2]) == (mine, node)
    assert pool.in_use == 1
    pool.release([mine, mine, mine])
    assert pool.available == 4


def test_a_leaf_that_goes_on_is_taken_over_and_a_forked_one_is_copied() -> None:
    pool = BlockPool(8, 4)
    fill(pool, [1, 2, 3, 4, 5, 6])
    fork = pool.match([1, 2, 3, 4, 5, 9])
    assert (len(fork.blocks), fork.alike) == (1, 1)
    block, source = pool.follow(fork) or (0, 0)
    assert block != source == fork.source
    longer = pool.match([1, 2, 3, 4, 5, 6, 7])
    assert longer.alike == 2
    assert pool.follow(longer) == (source, source)


def test_a_part_of_a_full_block_is_copied_and_the_block_stays() -> None:
    pool = BlockPool(8, 4)
    fill(pool, [1, 2, 3, 4])
    part = pool.match([1, 2, 3, 4])  # the last token must be computed
    assert (part.blocks, part.alike) == ([], 3)
    block, source = pool.follow(part) or (0, 0)
    assert block != source
    assert len(pool.match([1, 2, 3, 4, 5]).blocks) == 1


def test_the_last_idle_block_is_used_itself_rather_than_copied() -> None:
    pool = BlockPool(1, 4)
    fill(pool, [1, 2, 3, 4])
    part = pool.match([1, 2, 9])
    assert pool.follow(part) == (0, 0)
    assert pool.in_use == 1 and pool.match([1, 2, 3, 4, 5]).alike == 0


def test_equal_texts_are_kept_once() -> None:
    pool = BlockPool(8, 4)
    for _ in range(3):
        fill(pool, [1, 2, 3, 4, 5, 6])
    fill(pool, [1, 2, 3, 4, 5])
    fill(pool, [1, 2, 3, 4, 5, 6, 7])
    longer = pool.match([1, 2, 3, 4, 5, 6, 7, 8])
    assert (len(longer.blocks), longer.alike) == (1, 3)
    pool.release(longer.blocks)
    assert len(pool._free) == 6, "what a longer text holds too is not kept twice"

"""The block pool against a model of it, under random use."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edgellm.engine.blocks import ROOT, BlockPool

SIZE = 3


class PoolMachine(RuleBasedStateMachine):
    """Sequences of random tokens take, seal and release blocks; contents are tracked beside the pool."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(8, SIZE)
        self.contents: dict[int, tuple[int, ...]] = {}
        """What was last written to each block: the whole prefix up to its end."""
        self.held: list[list[int]] = []

    @rule(tokens=st.lists(st.integers(0, 1), min_size=1, max_size=14))
    def admit(self, tokens: list[int]) -> None:
        blocks, node = self.pool.match(tokens)
        assert len(blocks) * SIZE < len(tokens)
        for i, block in enumerate(blocks):
            assert self.contents[block] == tuple(tokens[: (i + 1) * SIZE])
        for start in range(len(blocks) * SIZE, len(tokens), SIZE):
            block_or_none = self.pool.allocate()
            if block_or_none is None:
                self.pool.release(blocks)
                return
            block = block_or_none
            assert all(block not in held for held in self.held) and block not in blocks
            blocks.append(block)
            self.contents[block] = tuple(tokens[: start + SIZE])
            if start + SIZE <= len(tokens):
                node = self.pool.seal(block, node, tokens[start : start + SIZE])
                assert node != ROOT
        self.held.append(blocks)

    @rule(index=st.integers(0, 100))
    def release(self, index: int) -> None:
        if self.held:
            self.pool.release(self.held.pop(index % len(self.held)))

    @invariant()
    def every_block_is_accounted_for(self) -> None:
        assert self.pool.in_use == len({block for held in self.held for block in held})

    def teardown(self) -> None:
        for held in self.held:
            self.pool.release(held)
        assert self.pool.available == self.pool.num_blocks
        assert sorted(b for b in iter(self.pool.allocate, None)) == list(range(self.pool.num_blocks))


TestBlockPool = PoolMachine.TestCase

"""Which tokens of which sequences run in the next step (iteration-level scheduling, chunked prefill).

Running decodes come first, one token each; prefill chunks fill the rest of the token budget, or half of it
beside decodes; waiting sequences are admitted in the order of their arrival while there are places and
blocks. When a running sequence finds no block, the youngest is pre-empted: its blocks are given back and it
returns to the head of the queue, to be recomputed. The oldest is never pre-empted, so there is always
progress.

docs/engine.md tells the whole story.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from edgellm.backends.executor import ExecutorLimits
from edgellm.engine.blocks import BlockPool
from edgellm.engine.sequence import Sequence


@dataclass(frozen=True)
class Chunk:
    """`count` tokens of a sequence, from its first token that is not in the cache yet."""

    sequence: Sequence
    count: int

    @property
    def ends_at_last_token(self) -> bool:
        """Whether logits of the next token come out of this chunk."""
        return self.sequence.computed + self.count == len(self.sequence.tokens)


@dataclass(frozen=True)
class CacheStats:
    """The key/value cache: blocks in all and held by running sequences, places for tokens that those hold and
    do not use yet, and sequences pre-empted so far.
    """

    blocks: int
    blocks_in_use: int
    block_size: int
    unused_slots: int
    preemptions: int

    @property
    def waste(self) -> float:
        """The part of the held places that is not used."""
        return self.unused_slots / max(1, self.blocks_in_use * self.block_size)


@dataclass(frozen=True)
class Schedule:
    """The next step: first the `copies` of blocks, (source, target) in order, then the `chunks`."""

    chunks: list[Chunk]
    copies: list[tuple[int, int]]


class StepScheduler:
    """Queue, running set and blocks of a step executor. Not thread-safe: the step loop owns it."""

    def __init__(self, limits: ExecutorLimits, *, prefix_cache: bool = True) -> None:
        self.prefix_cache = prefix_cache
        self.pool = BlockPool(limits.num_blocks, limits.block_size)
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        """In order of admission: the last one is the youngest."""
        self.preemptions = 0
        self._max_batch = limits.max_batch
        self._budget = limits.max_step_tokens
        # A step takes as long as its prompt tokens do, and whoever decodes waits for it. Half as many are
        # read nearly as fast.
        self._budget_beside_decodes = max(1, limits.max_step_tokens // 2)

    def add(self, sequence: Sequence) -> None:
        """Queue a new sequence."""
        self.waiting.append(sequence)

    def stats(self) -> CacheStats:
        """The cache of this moment; from any thread, then perhaps a step apart."""
        pool = self.pool
        unused = sum(len(s.blocks) * pool.block_size - s.computed for s in tuple(self.running))
        return CacheStats(pool.num_blocks, pool.in_use, pool.block_size, unused, self.preemptions)

    def schedule(self) -> Schedule:
        """The next step, blocks allocated; without chunks only if there is nothing to do."""
        chunks: list[Chunk] = []
        copies: list[tuple[int, int]] = []
        budget = self._budget
        decodes = [s for s in self.running if len(s.tokens) - s.computed == 1]
        prefills = [s for s in self.running if len(s.tokens) - s.computed > 1]
        for sequence in decodes:
            budget -= self._continue(sequence, budget, chunks)
        if chunks:
            budget = min(budget, self._budget_beside_decodes)
        for sequence in prefills:
            budget -= self._continue(sequence, budget, chunks)
        # Growing may have pre-empted a sequence that already had a chunk.
        chunks = [chunk for chunk in chunks if chunk.sequence in self.running]
        while budget and self.waiting and len(self.running) < self._max_batch:
            if not self._admit(self.waiting[0], copies):
                break
            sequence = self.waiting.popleft()
            self.running.append(sequence)
            count = min(len(sequence.tokens) - sequence.computed, budget)
            self._grow(sequence, count)
            chunks.append(Chunk(sequence, count))
            budget -= count
        return Schedule(chunks, copies)

    def _continue(self, sequence: Sequence, budget: int, chunks: list[Chunk]) -> int:
        """Add a running sequence's next chunk to the step; the tokens that it has."""
        count = min(len(sequence.tokens) - sequence.computed, budget)
        if not count or sequence not in self.running or not self._grow(sequence, count):
            return 0
        chunks.append(Chunk(sequence, count))
        return count

    def advance(self, chunk: Chunk) -> None:
        """Note that a chunk has run, and seal the blocks it filled."""
        sequence, size = chunk.sequence, self.pool.block_size
        sequence.computed += chunk.count
        while self.prefix_cache and (sequence.sealed + 1) * size <= sequence.computed:
            at = sequence.sealed
            tokens = sequence.tokens[at * size : (at + 1) * size]
            sequence.blocks[at], sequence.node = self.pool.seal(sequence.blocks[at], sequence.node, tokens)
            sequence.sealed += 1

    def remove(self, sequence: Sequence) -> None:
        """Let a finished, cancelled or failed sequence go."""
        if sequence in self.running:
            self.running.remove(sequence)
            self._drop_blocks(sequence)
        else:
            self.waiting.remove(sequence)

    def _admit(self, sequence: Sequence, copies: list[tuple[int, int]]) -> bool:
        """Take the cached prefix of a waiting sequence, if the blocks for the rest of it are there too."""
        size = self.pool.block_size
        if self.running and self.pool.available <= sequence.refused_at:
            return False  # nothing has come back since: no need to look again at every step
        prefix = self.pool.match(sequence.tokens)
        needed = -(-(len(sequence.tokens) + 1) // size) - len(prefix.blocks)
        # With nothing running, what a lone sequence lacks can only be freed by itself: let it in.
        if needed > self.pool.available and self.running:
            self.pool.release(prefix.blocks)
            sequence.refused_at = self.pool.available
            return False
        sequence.refused_at = -1
        sequence.blocks, sequence.node = prefix.blocks, prefix.node
        sequence.sealed = len(prefix.blocks)
        sequence.computed = sequence.sealed * size
        if (found := self.pool.follow(prefix)) is not None:
            block, source = found
            if block != source:
                copies.append((source, block))
            sequence.blocks.append(block)
            sequence.computed += prefix.alike
        if sequence.new_tokens == 0:
            sequence.generation.cached_tokens = sequence.computed
        return True

    def _grow(self, sequence: Sequence, count: int) -> bool:
        """Give a running sequence blocks for `count` more tokens; False if it had to be pre-empted."""
        needed = -(-(sequence.computed + count) // self.pool.block_size)
        while len(sequence.blocks) < needed:
            block = self.pool.allocate()
            if block is not None:
                sequence.blocks.append(block)
                continue
            youngest = self.running.pop()
            self._drop_blocks(youngest)
            self.waiting.appendleft(youngest)
            self.preemptions += 1
            if youngest is sequence:
                return False
        return True

    def _drop_blocks(self, sequence: Sequence) -> None:
        start = sequence.sealed * self.pool.block_size
        if self.prefix_cache and start < sequence.computed:
            last = sequence.tokens[start : sequence.computed]
            self.pool.shelve(sequence.blocks[sequence.sealed], sequence.node, last)
        self.pool.release(sequence.blocks)
        sequence.blocks, sequence.node, sequence.sealed, sequence.computed = [], 0, 0, 0

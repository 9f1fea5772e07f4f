"""Which tokens of which sequences run in the next step (iteration-level scheduling, chunked prefill).

Running decodes come first, one token each; prefill chunks fill the rest of the token budget, or half of it
beside decodes; waiting sequences are admitted in the order of their arrival while there are places and
blocks. Where more decode than a step has room for, those that have waited longest are next. A prompt whose
next block an earlier one computes in this step waits for it, and shares it. When a running sequence finds no
block, the youngest is pre-empted: its blocks are given back and it returns to the head of the queue, to be
recomputed. The oldest is never pre-empted, so there is always progress.

docs/engine.md tells the whole story.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from edgellm.backends.executor import ExecutorLimits
from edgellm.engine.blocks import BlockPool, Prefix
from edgellm.engine.sequence import Sequence

_Block = tuple[int, tuple[int, ...]]
"""The node of the prefix tree that a block comes after, and its tokens."""


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
        self._steps = 0
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
        step = Schedule([], [])
        decodes = [s for s in self.running if len(s.tokens) - s.computed == 1]
        prefills = [s for s in self.running if len(s.tokens) - s.computed > 1]
        room = self._budget - self._kept_for_prompts(prefills)
        if len(decodes) > room:
            decodes.sort(key=lambda sequence: sequence.last_step)
        for sequence in decodes:
            room -= self._continue(sequence, room, step.chunks)
        budget = self._budget - len(step.chunks)
        if step.chunks:
            budget = min(budget, self._budget_beside_decodes)
        promised: set[_Block] = set()
        for sequence in prefills:
            budget -= self._prefill(sequence, budget, step, promised)
        # Growing may have pre-empted a sequence that already had a chunk.
        step.chunks[:] = [chunk for chunk in step.chunks if chunk.sequence in self.running]
        while budget and self.waiting and len(self.running) < self._max_batch:
            if not self._admit(self.waiting[0]):
                break
            sequence = self.waiting.popleft()
            self.running.append(sequence)
            budget -= self._prefill(sequence, budget, step, promised)
        self._steps += 1
        for chunk in step.chunks:
            chunk.sequence.last_step = self._steps
        return step

    def _kept_for_prompts(self, prefills: list[Sequence]) -> int:
        """Tokens of a step that decodes, however many, leave to prompts: half at most."""
        needed = sum(len(s.tokens) - s.computed for s in prefills)
        if self.waiting and len(self.running) < self._max_batch and not self._still_refused(self.waiting[0]):
            needed += len(self.waiting[0].tokens)
        return min(needed, self._budget // 2)

    def _prefill(self, sequence: Sequence, budget: int, step: Schedule, promised: set[_Block]) -> int:
        """Add a prompt's next chunk to the step, if no other computes the same; the tokens that it has."""
        if not budget or sequence not in self.running:
            return 0
        if self.prefix_cache and not self._share(sequence, step, promised):
            return 0
        return self._continue(sequence, budget, step.chunks)

    def _share(self, sequence: Sequence, step: Schedule, promised: set[_Block]) -> bool:
        """Take what others have computed of a prompt by now; False if one computes its next block right now.

        Args:
            promised: the next blocks of the prompts in this step.
        """
        size = self.pool.block_size
        start = sequence.sealed * size
        if sequence.computed == start:
            prefix = self.pool.match(sequence.tokens, sequence.node, start)
            self._take(sequence, prefix)
            start = sequence.sealed * size
            if (sequence.node, tuple(sequence.tokens[start : start + size])) in promised:
                return False
            if (found := self.pool.follow(prefix)) is not None:
                block, source = found
                if block != source:
                    step.copies.append((source, block))
                sequence.blocks.append(block)
                self._found(sequence, prefix.alike)
        tokens = tuple(sequence.tokens[start : start + size])
        if len(tokens) == size:
            promised.add((sequence.node, tokens))
        return True

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

    def _still_refused(self, sequence: Sequence) -> bool:
        """Whether nothing has come back since a waiting sequence was refused: no need to look again."""
        return bool(self.running) and self.pool.available <= sequence.refused_at

    def _admit(self, sequence: Sequence) -> bool:
        """Take the cached prefix of a waiting sequence, if the blocks for the rest of it are there too."""
        if self._still_refused(sequence):
            return False
        prefix = self.pool.match(sequence.tokens)
        needed = -(-(len(sequence.tokens) + 1) // self.pool.block_size) - len(prefix.blocks)
        # With nothing running, what a lone sequence lacks can only be freed by itself: let it in.
        if needed > self.pool.available and self.running:
            self.pool.release(prefix.blocks)
            sequence.refused_at = self.pool.available
            return False
        sequence.refused_at = -1
        if sequence.new_tokens == 0:
            sequence.generation.cached_tokens = 0
        self._take(sequence, prefix)
        return True

    def _take(self, sequence: Sequence, prefix: Prefix) -> None:
        """Go on after the whole blocks that were found."""
        sequence.blocks += prefix.blocks
        sequence.node = prefix.node
        sequence.sealed += len(prefix.blocks)
        self._found(sequence, len(prefix.blocks) * self.pool.block_size)

    def _found(self, sequence: Sequence, count: int) -> None:
        """Note that `count` more tokens of a sequence need not be computed."""
        sequence.computed += count
        if sequence.new_tokens == 0:
            sequence.generation.cached_tokens += count

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

"""Key/value cache blocks: reference counts, and sharing of equal prefixes.

A full block is *sealed*: it becomes a node of a prefix tree, keyed by (parent node, its tokens). Another
sequence that begins with the same tokens takes the same blocks. Keys hold the tokens themselves, so
equal keys mean equal contents: there is no hash to collide. Blocks that nobody holds stay in the tree
until their memory is needed; the least recently used go first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

ROOT = 0
"""Node of the empty prefix."""

_Key = tuple[int, tuple[int, ...]]


class BlockPool:
    """Hands out `num_blocks` blocks of `block_size` tokens each."""

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._free: list[int] = list(range(num_blocks - 1, -1, -1))
        self._refs = [0] * num_blocks
        self._idle: OrderedDict[int, None] = OrderedDict()
        """Sealed blocks that nobody holds, least recently used first."""
        self._by_key: dict[_Key, tuple[int, int]] = {}
        """(parent node, tokens) -> (block, node)"""
        self._key_of: dict[int, _Key] = {}
        self._next_node = ROOT + 1

    @property
    def available(self) -> int:
        """Blocks that can be allocated now, idle sealed ones included."""
        return len(self._free) + len(self._idle)

    @property
    def in_use(self) -> int:
        """Blocks held by at least one sequence."""
        return self.num_blocks - self.available

    def allocate(self) -> int | None:
        """A block with one reference; None if all are in use."""
        if self._free:
            block = self._free.pop()
        elif self._idle:
            block, _ = self._idle.popitem(last=False)
            del self._by_key[self._key_of.pop(block)]
        else:
            return None
        self._refs[block] = 1
        return block

    def release(self, blocks: Sequence[int]) -> None:
        """Give one reference of each block back. Sealed blocks stay reusable, the prefix's head longest."""
        for block in reversed(blocks):
            self._refs[block] -= 1
            if self._refs[block] == 0:
                if block in self._key_of:
                    self._idle[block] = None
                else:
                    self._free.append(block)

    def match(self, tokens: Sequence[int]) -> tuple[list[int], int]:
        """The longest sealed prefix of `tokens`, in whole blocks: (blocks, node of the last one).

        At least one token is left out, since a step must compute something to give logits. Each block
        of the answer carries a new reference.
        """
        blocks: list[int] = []
        node = ROOT
        for start in range(0, len(tokens) - self.block_size, self.block_size):
            found = self._by_key.get((node, tuple(tokens[start : start + self.block_size])))
            if found is None:
                break
            block, node = found
            if self._refs[block] == 0:
                del self._idle[block]
            self._refs[block] += 1
            blocks.append(block)
        return blocks, node

    def seal(self, block: int, parent: int, tokens: Sequence[int]) -> int:
        """Make a full block findable; returns its node, or the node of an equal block sealed before."""
        key = (parent, tuple(tokens))
        if (known := self._by_key.get(key)) is not None:
            return known[1]
        node = self._next_node
        self._next_node += 1
        self._by_key[key] = (block, node)
        self._key_of[block] = key
        return node

    def forget(self) -> None:
        """Empty the prefix tree (after a failed step the contents are not to be trusted)."""
        self._free.extend(self._idle)
        self._idle.clear()
        self._by_key.clear()
        self._key_of.clear()

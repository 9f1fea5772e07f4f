"""Key/value cache blocks: reference counts, and sharing of equal prefixes down to the token.

A full block is *sealed*: it becomes a node of a prefix tree, below the node of the block before it. Another
sequence that begins with the same tokens takes the same blocks, and one that computed an equal block at the
same time gives its own back. When a sequence lets go of its last block,
which is seldom full, that block is *shelved*: a leaf of the tree. Who begins like a leaf, or like a part
of a full block, continues in a block of its own: the leaf itself where nothing of it would be lost, else a
copy. So a block is written by one holder only, and never once it is sealed.

The tree holds the tokens themselves, so equal keys mean equal contents: there is no hash to collide. Blocks
that nobody holds stay in it until their memory is needed; the least recently used go first.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

ROOT = 0
"""Node of the empty prefix."""

_Tokens = tuple[int, ...]


class _Entry(NamedTuple):
    """A block's place in the tree: below `parent`; `node` is its own, None for a leaf."""

    parent: int
    tokens: _Tokens
    node: int | None


@dataclass(frozen=True)
class Prefix:
    """What is cached of a sequence.

    Attributes:
        blocks: whole blocks, in order, each with a new reference. node: of the last one.
        source: a block whose first `alike` tokens come next; no reference is taken. See `BlockPool.follow`.
    """

    blocks: list[int]
    node: int
    source: int
    alike: int


class BlockPool:
    """Hands out `num_blocks` blocks of `block_size` tokens each."""

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._free: list[int] = list(range(num_blocks - 1, -1, -1))
        self._refs = [0] * num_blocks
        self._idle: OrderedDict[int, None] = OrderedDict()
        """Blocks of the tree that nobody holds, least recently used first."""
        self._entries: dict[int, _Entry] = {}
        self._children: dict[int, list[tuple[_Tokens, int]]] = {}
        """node -> (tokens, block) of what comes next, sorted; none of them is the beginning of another."""
        self._next_node = ROOT + 1

    @property
    def available(self) -> int:
        """Blocks that can be allocated now, idle ones included."""
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
            self._remove(block)
        else:
            return None
        self._refs[block] = 1
        return block

    def release(self, blocks: Sequence[int]) -> None:
        """Give one reference of each block back. Those in the tree stay there, the prefix's head longest."""
        for block in reversed(blocks):
            self._refs[block] -= 1
            if self._refs[block] == 0:
                if block in self._entries:
                    self._idle[block] = None
                else:
                    self._free.append(block)

    def match(self, tokens: Sequence[int], node: int = ROOT, start: int = 0) -> Prefix:
        """The longest cached beginning of `tokens`, or what of it comes after its first `start`, at `node`.

        At least one token is left out, since a step must compute something to give logits.
        """
        blocks: list[int] = []
        limit = len(tokens) - 1
        while True:
            piece = tuple(tokens[start : min(start + self.block_size, limit)])
            block, alike = self._nearest(node, piece)
            if alike < self.block_size:
                return Prefix(blocks, node, block, alike)
            self._hold(block)
            blocks.append(block)
            node = self._node(block)
            start += self.block_size

    def follow(self, prefix: Prefix) -> tuple[int, int] | None:
        """A block of one's own for the tokens after `prefix.blocks`: (block, block to copy it from first).

        They are the same where nothing needs copying. None if nothing comes next, or all are in use.
        """
        source = prefix.source
        if not prefix.alike:
            return None
        if self._refs[source] == 0:
            if len(self._entries[source].tokens) == prefix.alike < self.block_size:
                del self._idle[source]
                self._remove(source)
                self._refs[source] = 1
                return source, source
            self._idle.move_to_end(source)  # used just now, and not to be evicted for its own copy
        block = self.allocate()
        return None if block is None else (block, source)

    def seal(self, block: int, parent: int, tokens: Sequence[int]) -> tuple[int, int]:
        """Make a full block findable: (block, its node). If an equal one is there already, the caller gets
        that one instead, and the given one is released.
        """
        key = tuple(tokens)
        known, alike = self._nearest(parent, key)
        if alike == self.block_size:
            self._hold(known)
            self.release([block])
            return known, self._node(known)
        node = self._next_node
        self._next_node += 1
        self._insert(block, _Entry(parent, key, node))
        return block, node

    def shelve(self, block: int, parent: int, tokens: Sequence[int]) -> None:
        """Make the first `tokens` of a block findable, just before its only holder releases it."""
        key = tuple(tokens)
        if self._nearest(parent, key)[1] < len(key):
            self._insert(block, _Entry(parent, key, None))

    def forget(self) -> None:
        """Empty the prefix tree (after a failed step the contents are not to be trusted)."""
        self._free.extend(self._idle)
        self._idle.clear()
        self._entries.clear()
        self._children.clear()

    def _hold(self, block: int) -> None:
        if self._refs[block] == 0:
            del self._idle[block]
        self._refs[block] += 1

    def _node(self, block: int) -> int:
        node = self._entries[block].node
        assert node is not None  # full blocks have one
        return node

    def _nearest(self, parent: int, piece: _Tokens) -> tuple[int, int]:
        """The block below `parent` that begins most like `piece`, and how many tokens they share."""
        children = self._children.get(parent)
        found, most = -1, 0
        if children and piece:
            # Among sorted sequences, the ones that share most with another stand next to its place.
            at = bisect_left(children, (piece,))
            for tokens, block in children[max(at - 1, 0) : at + 1]:
                alike = len(piece) if tokens == piece else _alike(tokens, piece)
                if alike > most:
                    found, most = block, alike
        return found, most

    def _insert(self, block: int, entry: _Entry) -> None:
        children = self._children.setdefault(entry.parent, [])
        at = bisect_left(children, (entry.tokens,))
        if at and entry.tokens[: len(children[at - 1][0])] == children[at - 1][0]:
            # A leaf (nobody holds one) that the new block continues: not needed any more.
            at, leaf = at - 1, children[at - 1][1]
            del children[at], self._entries[leaf], self._idle[leaf]
            self._free.append(leaf)
        children.insert(at, (entry.tokens, block))
        self._entries[block] = entry

    def _remove(self, block: int) -> None:
        entry = self._entries.pop(block)
        children = self._children[entry.parent]
        del children[bisect_left(children, (entry.tokens,))]
        if not children:
            del self._children[entry.parent]


def _alike(one: _Tokens, other: _Tokens) -> int:
    """Length of the common beginning."""
    count = 0
    for mine, yours in zip(one, other, strict=False):
        if mine != yours:
            break
        count += 1
    return count

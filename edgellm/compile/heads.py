"""The heads of attention, and what follows from their numbers. Needs no TVM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

BLOCK_SIZE = 16
"""Tokens in a block of the cache."""
MOST_ROWS = 16
_MOST_SHARED = 8


@dataclass(frozen=True)
class Heads:
    """Query heads, key/value heads, entries of a head, and how many of those rotate."""

    heads: int
    kv_heads: int
    dim: int
    rotary_dim: int

    @property
    def qkv(self) -> int:
        """Outputs of the fused projection."""
        return (self.heads + 2 * self.kv_heads) * self.dim

    def key_shape(self, blocks: Any) -> tuple[Any, ...]:
        """Keys stand with neighbouring tokens together, so that scores of 16 tokens are one vector."""
        return (blocks, self.kv_heads, self.dim, BLOCK_SIZE)

    def value_shape(self, blocks: Any) -> tuple[Any, ...]:
        return (blocks, self.kv_heads, BLOCK_SIZE, self.dim)

    @property
    def shared(self) -> int:
        """Query heads of one key/value head that attention computes together."""
        group = self.heads // self.kv_heads
        return next(size for size in range(min(group, _MOST_SHARED), 0, -1) if group % size == 0)

    @property
    def item_tokens(self) -> int:
        """Tokens that one work item of attention may have."""
        return max(1, MOST_ROWS // self.shared)

"""The heads of attention, their cache, and what follows from them. Needs no TVM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from edgellm.bundle.model_config import ModelConfig

CacheType = Literal["fp32", "fp16", "int8"]
BLOCK_SIZE = 16
"""Tokens in a block of the cache."""
SPAN = 256
"""Positions that attention takes together; spans begin at multiples of it."""
MOST_ROWS = 16
_MOST_SHARED = 8
_DTYPES: dict[CacheType, tuple[str, int]] = {
    "fp32": ("float32", 4),
    "fp16": ("float16", 2),
    "int8": ("int8", 1),
}
"""numpy's name, and bytes."""


def cache_types(quant: str) -> tuple[CacheType, ...]:
    """What the cache can hold beside weights of this quantization, the default first."""
    return ("fp32",) if quant == "fp32" else ("fp16", "int8")


@dataclass(frozen=True)
class Heads:
    """Query heads, key/value heads, entries of a head, how many of those rotate, and the cache's numbers."""

    heads: int
    kv_heads: int
    dim: int
    rotary_dim: int
    cache: CacheType = "fp16"

    @property
    def qkv(self) -> int:
        """Outputs of the fused projection."""
        return (self.heads + 2 * self.kv_heads) * self.dim

    @property
    def page(self) -> int:
        """Entries of a block's keys, or values, of one head.

        Keys are [dim, 16 tokens], so that scores of 16 tokens are one vector; values are [16 tokens, dim].
        With int8, 16 fp16 scales follow, one for each token.
        """
        return self.dim * BLOCK_SIZE + (2 * BLOCK_SIZE if self.cache == "int8" else 0)

    @property
    def entry_bytes(self) -> int:
        """Of one number in the cache."""
        return _DTYPES[self.cache][1]

    @property
    def dtype(self) -> str:
        """Of the cache."""
        return _DTYPES[self.cache][0]

    def cache_shape(self, blocks: Any) -> tuple[Any, ...]:
        """Of a layer's keys, and of its values."""
        return (blocks, self.kv_heads, self.page)

    @property
    def token_bytes(self) -> int:
        """Of one token in a layer's cache."""
        return 2 * self.kv_heads * self.page * self.entry_bytes // BLOCK_SIZE

    @property
    def shared(self) -> int:
        """Query heads of one key/value head that attention computes together."""
        group = self.heads // self.kv_heads
        return next(size for size in range(min(group, _MOST_SHARED), 0, -1) if group % size == 0)

    @property
    def units(self) -> int:
        """Units of parallel work that attention makes of one item."""
        return self.heads // self.shared

    @property
    def item_tokens(self) -> int:
        """Tokens that one work item of attention may have."""
        return max(1, MOST_ROWS // self.shared)


def heads_of(config: ModelConfig, cache: CacheType, layer: int = 0) -> Heads:
    """The heads of a layer."""
    local = config.local_rope if config.slides(layer) else None
    return Heads(config.num_heads, config.num_kv_heads, config.head_dim, (local or config.rope).dim, cache)

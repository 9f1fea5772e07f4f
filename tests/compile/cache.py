"""The key/value cache in numpy, as `edgellm.compile.heads` lays it out."""

from __future__ import annotations

import numpy as np

from edgellm.compile.heads import BLOCK_SIZE, Heads

LARGEST_HALF = 65504.0


def empty_cache(heads: Heads, blocks: int) -> np.ndarray:
    """A layer's keys, or its values."""
    return np.zeros(heads.cache_shape(blocks), heads.dtype)


def spoiled_cache(heads: Heads, blocks: int) -> np.ndarray:
    """The same, full of the largest numbers: what must not be seen would show."""
    cache = np.full(heads.cache_shape(blocks), 127 if heads.cache == "int8" else 60000, heads.dtype)
    if heads.cache == "int8":
        cache[..., heads.dim * BLOCK_SIZE :].view(np.float16)[:] = 500
    return cache


def write_cache(
    heads: Heads, keys: np.ndarray, values: np.ndarray, slot: int, key: np.ndarray, value: np.ndarray
) -> None:
    """Put a token's key and value, [kv_heads, dim] each, into block slot // 16."""
    block, place = divmod(slot, BLOCK_SIZE)
    size = heads.dim * BLOCK_SIZE
    for head in range(heads.kv_heads):
        for cache, numbers, shape in (
            (keys, key, (heads.dim, BLOCK_SIZE)),
            (values, value, (BLOCK_SIZE, heads.dim)),
        ):
            page = cache[block, head]
            one = np.asarray(numbers[head], np.float32)
            if heads.cache == "int8":
                scale = np.float16(min(np.abs(one).max() / np.float32(127), LARGEST_HALF))
                one = np.clip(np.rint(one / np.maximum(np.float32(scale), 1e-30)), -127, 127)
                page[size:].view(np.float16)[place] = scale
            elif heads.cache == "fp16":
                one = np.clip(one, -LARGEST_HALF, LARGEST_HALF)
            entries = page[:size].reshape(shape)
            (entries.T if cache is keys else entries)[place] = one.astype(heads.dtype)


def read_cache(
    heads: Heads, keys: np.ndarray, values: np.ndarray, table: np.ndarray, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """float64[length, kv_heads, dim]: keys and values of a sequence with these blocks."""
    size = heads.dim * BLOCK_SIZE
    blocks = table[: -(-length // BLOCK_SIZE)]
    results = []
    for cache in (keys, values):
        pages = cache[blocks]
        numbers = pages[..., :size].astype(np.float64)
        shape = (len(blocks), heads.kv_heads)
        if cache is keys:
            numbers = numbers.reshape(*shape, heads.dim, BLOCK_SIZE).transpose(0, 3, 1, 2)
        else:
            numbers = numbers.reshape(*shape, BLOCK_SIZE, heads.dim).transpose(0, 2, 1, 3)
        if heads.cache == "int8":
            scales = np.ascontiguousarray(pages[..., size:]).view(np.float16)
            numbers = numbers * scales.astype(np.float64).transpose(0, 2, 1)[..., None]
        results.append(numbers.reshape(-1, heads.kv_heads, heads.dim)[:length])
    return results[0], results[1]

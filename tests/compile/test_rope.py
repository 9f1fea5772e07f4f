"""Rotation of queries and keys, their norms, and what is written into the cache, against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from edgellm.compile.heads import BLOCK_SIZE, Heads
from edgellm.compile.isa import Isa
from tests.compile.cache import LARGEST_HALF, empty_cache, write_cache
from tests.compile.kernels import HERE, compiled, tensors

CONTEXT = 40
EPS = 1e-5
SCALE = 0.3
HEADS = {
    "whole": Heads(4, 2, 64, 64),
    "partial": Heads(3, 1, 48, 36, "float32"),
    "narrow": Heads(2, 2, 16, 12),
    "int8": Heads(4, 2, 64, 64, "int8"),
    "int8, narrow": Heads(2, 1, 16, 16, "int8"),
}


def rotated(x: np.ndarray, positions: np.ndarray, cosines: np.ndarray, sines: np.ndarray) -> np.ndarray:
    """The first 2 * half entries of heads [n, h, dim] turned: rotate-half form."""
    half = cosines.shape[1]
    cos, sin = (one[positions][:, None].astype(np.float64) for one in (cosines, sines))
    first, second, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return np.concatenate([first * cos - second * sin, second * cos + first * sin, rest], axis=-1)


def normed(x: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    x = x.astype(np.float64)
    if weight is None:
        return x
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + EPS) * weight


class Case:
    def __init__(self, isa: Isa, heads: Heads, norms: bool) -> None:
        from edgellm.compile.kernels.rope import rotate_and_append

        self.heads = heads
        eps = EPS if norms else None
        self.kernel = compiled(rotate_and_append(isa, heads, "f", scale=SCALE, norm_eps=eps), isa)
        rng = self.rng = np.random.default_rng(heads.dim)
        angles = rng.uniform(0, 7, (CONTEXT, heads.rotary_dim // 2))
        self.tables = [np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)]
        self.norms = [1 + rng.standard_normal(heads.dim).astype(np.float32) / 4 for _ in range(2 * norms)]

    def check(self, qkv: np.ndarray) -> None:
        heads, n = self.heads, len(qkv)
        positions = self.rng.integers(0, CONTEXT, n).astype(np.int32)
        slots = self.rng.permutation(5 * BLOCK_SIZE)[:n].astype(np.int32)
        caches = [empty_cache(heads, 5) for _ in range(2)]
        out = tensors(*caches, np.zeros((n, heads.heads * heads.dim), np.float32))
        self.kernel(*tensors(qkv, positions, slots, *self.tables, *self.norms), *out)
        keys, values, q = (one.numpy() for one in out)
        parts = np.split(qkv.reshape(n, -1, heads.dim), [heads.heads, heads.heads + heads.kv_heads], axis=1)
        q_norm, k_norm = self.norms or (None, None)
        expected = rotated(normed(parts[0], q_norm) * SCALE, positions, *self.tables)
        bound = 2e-6 * max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(q.reshape(expected.shape), expected, atol=bound)
        turned = rotated(normed(parts[1], k_norm), positions, *self.tables)
        for row, slot in enumerate(slots.tolist()):
            write_cache(heads, *caches, slot, turned[row], parts[2][row])
        size = heads.dim * BLOCK_SIZE
        for got, wanted in zip((keys, values), caches, strict=True):
            if heads.cache == "int8":
                # Sums rounded elsewhere may fall on the other side of a step.
                steps = np.abs(got[..., :size].astype(int) - wanted[..., :size])
                assert steps.max() <= 1 and (steps > 0).mean() < 1e-3
                halves = [one[..., size:].copy().view(np.float16) for one in (got, wanted)]
                np.testing.assert_allclose(*halves, rtol=1e-3)
            else:
                step = 2e-6 if heads.cache == "float32" else 1e-3
                np.testing.assert_allclose(got, wanted, rtol=step, atol=bound)


@pytest.mark.parametrize("name", HEADS)
def test_heads_of_every_kind(name: str) -> None:
    case = Case(HERE[0], HEADS[name], norms=False)
    for n in (1, 3, 4, 29):
        case.check(case.rng.standard_normal((n, HEADS[name].qkv)).astype(np.float32))


@pytest.mark.parametrize("isa", HERE, ids=lambda isa: isa.name)
@pytest.mark.parametrize("name", ["whole", "int8"])
def test_norms_of_queries_and_keys(isa: Isa, name: str) -> None:
    case = Case(isa, HEADS[name], norms=True)
    case.check(case.rng.standard_normal((7, HEADS[name].qkv)).astype(np.float32) * 5)


def test_a_float16_cache_holds_large_numbers_within_its_range() -> None:
    case = Case(HERE[0], HEADS["whole"], norms=False)
    qkv = case.rng.standard_normal((5, HEADS["whole"].qkv)).astype(np.float32) * 1e5
    assert np.abs(qkv).max() > LARGEST_HALF
    case.check(qkv)


@pytest.mark.parametrize("scale", [0.0, 1e-9, 1e7])
def test_an_int8_cache_holds_zeros_and_extremes(scale: float) -> None:
    """Tiny numbers become zeros, and huge ones the largest that an fp16 scale can express."""
    case = Case(HERE[0], HEADS["int8"], norms=False)
    case.check(case.rng.standard_normal((5, HEADS["int8"].qkv)).astype(np.float32) * np.float32(scale))

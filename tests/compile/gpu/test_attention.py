"""Attention over the paged cache, rotary embedding and what goes into the cache, against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from edgellm.compile.gpu.attention import attention, item_tokens, merge
from edgellm.compile.gpu.rope import rotate_and_append
from edgellm.compile.heads import Heads
from tests.compile.gpu.cases import Floats, normal
from tests.compile.gpu.runner import Runner

BLOCKS, WIDTH = 60, 20

HEADS = [(8, 2, 64, None), (4, 4, 48, 100), (8, 1, 128, None), (4, 2, 256, 70), (6, 2, 96, 300)]


def step(rng: np.random.Generator, positions: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """tokens int32[n, 4] and random tables int32[b, WIDTH]: positions of each sequence."""
    tables = np.stack([rng.permutation(BLOCKS)[:WIDTH] for _ in positions]).astype(np.int32)
    rows = [(0, p, 0, i) for i, one in enumerate(positions) for p in one]
    return np.array(rows, np.int32), tables


def expected(q: Floats, keys: Floats, values: Floats, tokens, tables, window: int | None) -> Floats:
    heads = q.shape[1]
    group = heads // keys.shape[1]
    found = np.zeros_like(q)
    for i, (_, position, _, sequence) in enumerate(tokens):
        seen = np.arange(0 if window is None else max(0, position - window + 1), position + 1)
        blocks, within = tables[sequence][seen // 16], seen % 16
        for h in range(heads):
            scores = keys[blocks, h // group, :, within].astype(np.float32) @ q[i, h]
            weights = np.exp(scores - scores.max())
            found[i, h] = weights / weights.sum() @ values[blocks, h // group, within].astype(np.float32)
    return found


def attend(device, heads: Heads, window, tokens, tables, rng, *, parts: int, together: int, result="float32"):
    """What the kernels give and what they should."""
    n = len(tokens)
    keys = normal(rng, BLOCKS, heads.kv_heads, heads.dim, 16).astype(heads.dtype)
    values = normal(rng, BLOCKS, heads.kv_heads, 16, heads.dim).astype(heads.dtype)
    q = normal(rng, n, heads.heads, heads.dim) * heads.dim**-0.5
    y = np.zeros_like(q, result)
    kernel = attention(heads, "attention", window=window, tokens=together, parts=parts, result=result)
    sizes = {"n": n, "b": len(tables), "m": WIDTH, "blocks": BLOCKS}
    first = np.full((n, heads.heads, parts, heads.dim + 2), np.nan, np.float32) if parts > 1 else y
    [got] = device.run(kernel, [q, keys, values, tokens, tables, first], sizes)
    if parts > 1:
        [got] = device.run(merge(heads, "merge", parts=parts, result=result), [got, y], sizes)
    return got, expected(q, keys, values, tokens, tables, window)


@pytest.mark.parametrize(("q_heads", "kv_heads", "dim", "window"), HEADS)
def test_one_token_each(device: Runner, q_heads, kv_heads, dim, window, rng: np.random.Generator) -> None:
    tokens, tables = step(rng, [[300], [5], [130]])
    heads = Heads(q_heads, kv_heads, dim, dim, "fp32")
    got, want = attend(device, heads, window, tokens, tables, rng, parts=1, together=1)
    assert np.abs(got - want).max() < 1e-5


@pytest.mark.parametrize(("q_heads", "kv_heads", "dim", "window"), HEADS)
def test_tokens_of_prompts(device: Runner, q_heads, kv_heads, dim, window, rng: np.random.Generator) -> None:
    """Items that begin and end anywhere, across the borders of spans, beside tokens that are alone."""
    tokens, tables = step(rng, [[*range(121, 131)], [7], [*range(3)], [255], [*range(254, 257)]])
    heads = Heads(q_heads, kv_heads, dim, dim, "fp32")
    together = item_tokens(heads)
    assert together > 1
    got, want = attend(device, heads, window, tokens, tables, rng, parts=1, together=together)
    assert np.abs(got - want).max() < 1e-5


@pytest.mark.parametrize(("q_heads", "kv_heads", "dim", "window"), [(8, 2, 64, None), (4, 2, 256, 70)])
def test_context_in_parts(device: Runner, q_heads, kv_heads, dim, window, rng: np.random.Generator) -> None:
    tokens, tables = step(rng, [[319], [5], [130]])
    heads = Heads(q_heads, kv_heads, dim, dim, "fp32")
    got, want = attend(device, heads, window, tokens, tables, rng, parts=4, together=1)
    assert np.abs(got - want).max() < 1e-5


def test_company_changes_no_bit(device: Runner, rng: np.random.Generator) -> None:
    heads = Heads(4, 2, 64, 64, "fp32")
    tokens, tables = step(rng, [[300], [5], [130]])
    state = rng.bit_generator.state
    alone, together = [], []
    for chosen, found in ((tokens, together), (tokens[1:2], alone)):
        rng.bit_generator.state = state
        keys, values = normal(rng, BLOCKS, 2, 64, 16), normal(rng, BLOCKS, 2, 16, 64)
        q = normal(rng, len(tokens), 4, 64)[chosen[:, 3]]
        kernel = attention(heads, "attention", window=None, parts=4)
        y = np.zeros((len(q), 4, 4, 66), np.float32)
        sizes = {"n": len(q), "b": 3, "m": WIDTH, "blocks": BLOCKS}
        found += device.run(kernel, [q, keys, values, chosen, tables, y], sizes)
    assert np.array_equal(alone[0][0], together[0][1])


def test_half_cache(half_device: Runner, rng: np.random.Generator) -> None:
    heads = Heads(8, 2, 64, 64, "fp16")
    tokens, tables = step(rng, [[300, 301, 302], [5]])
    got, want = attend(half_device, heads, None, tokens, tables, rng, parts=1, together=4, result="float16")
    assert got.dtype == np.float16
    assert np.abs(got - want).max() < 2e-3


@pytest.mark.parametrize("norm_eps", [None, 1e-6])
@pytest.mark.parametrize(
    ("q_heads", "kv_heads", "dim", "rotary"), [(8, 2, 64, 64), (4, 4, 48, 24), (4, 2, 256, 256)]
)
def test_rotate_and_append(device: Runner, q_heads, kv_heads, dim, rotary, norm_eps, rng) -> None:
    heads, n, half, context = Heads(q_heads, kv_heads, dim, rotary, "fp32"), 3, rotary // 2, 400
    row = heads.qkv + 32
    tokens, _ = step(rng, [[5, 6], [300]])
    tokens[:, 2] = slots = rng.permutation(BLOCKS * 16)[:n]
    qkv, angles, norms = normal(rng, n, row), normal(rng, context, rotary), normal(rng, 2, dim)
    kernel = rotate_and_append(heads, row, "rope", scale=0.125, norm_eps=norm_eps)
    empty = [
        np.zeros((BLOCKS, kv_heads, dim, 16), np.float32),
        np.zeros((BLOCKS, kv_heads, 16, dim), np.float32),
    ]
    arrays = [
        qkv,
        tokens,
        angles,
        *([norms] if norm_eps else []),
        *empty,
        np.zeros((n, q_heads, dim), np.float32),
    ]
    keys, values, q = device.run(kernel, arrays, {"n": n, "context": context, "blocks": BLOCKS})
    x = qkv[:, : heads.qkv].reshape(n, -1, dim).copy()
    if norm_eps:
        x[:, :-kv_heads] /= np.sqrt((x[:, :-kv_heads] ** 2).mean(-1, keepdims=True) + norm_eps)
        x[:, :q_heads] *= norms[0]
        x[:, q_heads:-kv_heads] *= norms[1]
    turned = x.copy()
    cosines, sines = angles[tokens[:, 1], None, :half], angles[tokens[:, 1], None, half:]
    low, high = x[..., :half], x[..., half:rotary]
    turned[..., :half], turned[..., half:rotary] = low * cosines - high * sines, high * cosines + low * sines
    assert np.allclose(q, turned[:, :q_heads] * 0.125, atol=1e-5)
    for i, slot in enumerate(slots):
        assert np.allclose(keys[slot // 16, :, :, slot % 16], turned[i, q_heads:-kv_heads], atol=1e-5)
        assert np.array_equal(values[slot // 16, :, slot % 16], x[i, -kv_heads:])
    assert np.count_nonzero(values) == n * kv_heads * dim

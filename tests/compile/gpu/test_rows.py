"""Norms and embeddings, against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from edgellm.compile.gpu.embed import embed
from edgellm.compile.gpu.norm import norm
from tests.compile.gpu.cases import matrix, normal
from tests.compile.gpu.runner import Runner


@pytest.mark.parametrize("width", [64, 352])
def test_norm_of_picked_rows(device: Runner, width: int, rng: np.random.Generator) -> None:
    x, weight, rows = normal(rng, 5, width), normal(rng, width), np.array([4, 0, 2], np.int32)
    kernel = norm(width, "norm", eps=1e-5, pick_rows=True)
    [got] = device.run(kernel, [x, rows, weight, np.zeros((3, width), np.float32)], {"n": 5, "r": 3})
    want = x[rows] / np.sqrt((x[rows] ** 2).mean(1, keepdims=True) + 1e-5) * weight
    assert np.allclose(got, want, atol=1e-5)


def test_norm_then_residual(device: Runner, rng: np.random.Generator) -> None:
    x, weight, residual = normal(rng, 3, 96), normal(rng, 96), normal(rng, 3, 96)
    kernel = norm(96, "norm", eps=1e-6, residual=True)
    [got] = device.run(kernel, [x, weight, residual, np.zeros_like(x)], {"n": 3})
    want = x / np.sqrt((x**2).mean(1, keepdims=True) + 1e-6) * weight + residual
    assert np.allclose(got, want, atol=1e-5)


def test_half_norm(half_device: Runner, rng: np.random.Generator) -> None:
    """What is beyond fp16's range is held at its largest."""
    x, weight = normal(rng, 2, 64), normal(rng, 64)
    weight[0] = 1e9
    [got] = half_device.run(
        norm(64, "norm", eps=1e-6, result="float16"), [x, weight, np.zeros_like(x, "float16")], {"n": 2}
    )
    want = np.clip(x / np.sqrt((x**2).mean(1, keepdims=True) + 1e-6) * weight, -65504, 65504)
    assert np.allclose(got, want, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("bits", [4, 8, 16, 32])
def test_embeddings(device: Runner, bits: int, rng: np.random.Generator) -> None:
    """Of the second half of a vocabulary: other rows are left as they are."""
    weight, packed = matrix(rng, 64, 352, bits)
    tokens = np.zeros((5, 4), np.int32)
    tokens[:, 0] = [70, 3, 127, 64, 63]
    kernel = embed(64, 352, bits, "embed", factor=1.5, first=64)
    [got] = device.run(kernel, [tokens, *packed, np.full((5, 352), 7, np.float32)], {"n": 5})
    assert np.allclose(got[[0, 2, 3]], weight[[6, 63, 0]] * 1.5, rtol=1e-6)
    assert (got[[1, 4]] == 7).all()

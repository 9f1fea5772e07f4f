"""Norms, sums and conversions of activations, against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from edgellm.compile.isa import Isa
from tests.compile.kernels import HERE, activations, compiled, dequantized, quantized, tensors

EPS = 1e-5
ROWS = (1, 3, 4, 17)
WIDTHS = (32, 96, 320)


def rmsnorm(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + EPS) * weight


def inputs(width: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of different sizes, one of zeros; a norm's weight."""
    rng = np.random.default_rng(width)
    x = rng.standard_normal((max(ROWS), width)).astype(np.float32)
    x *= 10.0 ** rng.uniform(-3, 3, (max(ROWS), 1)).astype(np.float32)
    x[2] = 0
    return x, (1 + rng.standard_normal(width) / 4).astype(np.float32)


def check_quantized(got: list[np.ndarray], expected: np.ndarray, zero: int) -> None:
    """Codes within half a step of `expected`, corrections exact, and the padding without effect."""
    codes, scales, corrections = got
    width = expected.shape[1]
    steps = np.repeat(scales, 32, axis=1)[:, :width]
    values = dequantized(codes, scales)[:, :width]
    assert (np.abs(values - expected) <= steps * 0.501 + 1e-7 * np.abs(expected)).all()
    assert (
        np.abs(codes[:, :width].reshape(-1, 32)).max(axis=-1) >= 127 * (scales[:, : width // 32] > 0).ravel()
    ).all()
    sums = codes[:, :width].reshape(len(codes), -1, 32).astype(int).sum(axis=-1)
    assert np.array_equal(corrections[:, : width // 32], -zero * sums)
    assert not scales[:, width // 32 :].any() and not corrections[:, width // 32 :].any()


@pytest.mark.parametrize("isa", HERE, ids=lambda isa: isa.name)
@pytest.mark.parametrize("width", WIDTHS)
def test_norms_and_their_quantization(isa: Isa, width: int) -> None:
    from edgellm.compile.kernels.activations import Float32Activations, Int8Activations
    from edgellm.compile.kernels.norm import norm

    x, weight = inputs(width)
    plain = compiled(norm(isa, width, "f", eps=EPS, form=Float32Activations()), isa)
    whole = compiled(norm(isa, width, "f", eps=EPS, form=Int8Activations(8)), isa)
    for n in ROWS:
        (out,) = tensors(np.full((n, width), np.nan, np.float32))
        plain(*tensors(x[:n], weight), out)
        np.testing.assert_allclose(out.numpy(), rmsnorm(x[:n], weight), rtol=2e-6, atol=1e-7)
        padded = -(-width // 64) * 64
        results = tensors(*(np.full_like(one, 77) for one in activations(n, padded)))
        whole(*tensors(x[:n], weight), *results)
        check_quantized([one.numpy() for one in results], rmsnorm(x[:n], weight), 8)


def test_only_the_picked_rows() -> None:
    from edgellm.compile.kernels.activations import Float32Activations
    from edgellm.compile.kernels.norm import norm

    x, weight = inputs(96)
    kernel = compiled(norm(HERE[0], 96, "f", eps=EPS, form=Float32Activations(), pick_rows=True), HERE[0])
    rows = np.array([11, 0, 11, 16, 5], np.int32)
    (out,) = tensors(np.zeros((5, 96), np.float32))
    kernel(*tensors(x, rows, weight), out)
    np.testing.assert_allclose(out.numpy(), rmsnorm(x[rows], weight), rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("isa", HERE, ids=lambda isa: isa.name)
def test_a_norm_added_to_the_residual(isa: Isa) -> None:
    from edgellm.compile.kernels.norm import add_norm

    x, weight = inputs(96)
    residual = np.random.default_rng(0).standard_normal(x.shape).astype(np.float32)
    kernel = compiled(add_norm(isa, 96, "f", eps=EPS), isa)
    for n in ROWS:
        (out,) = tensors(np.full((n, 96), np.nan, np.float32))
        kernel(*tensors(x[:n], residual[:n], weight), out)
        np.testing.assert_allclose(out.numpy(), residual[:n] + rmsnorm(x[:n], weight), atol=3e-6)


@pytest.mark.parametrize("zero", [8, 128])
@pytest.mark.parametrize("isa", HERE, ids=lambda isa: isa.name)
def test_conversion_to_int8_is_exact(isa: Isa, zero: int) -> None:
    from edgellm.compile.kernels.activations import Int8Activations
    from edgellm.compile.kernels.norm import convert

    x, _ = inputs(96)
    x[1, :32] = np.linspace(-127, 127, 32) + 0.5  # halves, which round to even
    x[1, 31] = 127
    x[5, 32:64] = 1e-38  # the scale is not a normal number
    kernel = compiled(convert(isa, 96, "f", form=Int8Activations(zero)), isa)
    for n in ROWS:
        results = tensors(*(np.full_like(one, 77) for one in activations(n, 128)))
        kernel(*tensors(x[:n]), *results)
        codes, scales, corrections = (one.numpy() for one in results)
        wanted = quantized(x[:n], zero)
        np.testing.assert_allclose(scales[:, :3], wanted[1], rtol=2e-7)
        if n > 5:
            codes[5, 32:64] = wanted[0][5, 32:64]
            corrections[5, 1] = wanted[2][5, 1]
        assert np.array_equal(codes[:, :96], wanted[0])
        assert np.array_equal(corrections[:, :3], wanted[2])
        assert not scales[:, 3].any() and not corrections[:, 3].any()

"""Matrix products of every instruction set this processor has, against numpy."""

from __future__ import annotations

from math import erf

import numpy as np
import pytest

from edgellm.compile.isa import Isa
from edgellm.quantize.cpu_layout import pack, pack_floats
from edgellm.quantize.formats import ZERO
from tests.compile.kernels import HERE, activations, compiled, dequantized, quantized, random_weights, tensors

FLOATS = {16: np.float16, 32: np.float32}
ROWS = (1, 2, 3, 7, 12, 13, 29)


def gate_and_up(x: np.ndarray, weight: np.ndarray) -> list[np.ndarray]:
    """float64[n, inner] of each: blocks of 16 outputs take turns."""
    product = (x.astype(np.float64) @ weight.T).reshape(len(x), -1, 2, 16)
    return [product[:, :, i].reshape(len(x), -1) for i in range(2)]


def activated(kind: str, x: np.ndarray) -> np.ndarray:
    if kind == "silu":
        return x / (1 + np.exp(-x))
    if kind == "gelu":
        return x * (1 + np.vectorize(erf)(x / 2**0.5)) / 2
    return x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))) / 2


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("isa", HERE, ids=lambda isa: isa.name)
@pytest.mark.parametrize(("outputs", "inputs"), [(48, 128), (128, 320)])
def test_products_and_that_rows_do_not_see_each_other(isa: Isa, bits: int, outputs: int, inputs: int) -> None:
    from edgellm.compile.kernels.matmul import MatmulShape, matmul

    rng = np.random.default_rng(bits)
    codes, scales = random_weights(rng, outputs, inputs, bits)
    bias = rng.standard_normal(outputs).astype(np.float32)
    kernel = compiled(matmul(isa, MatmulShape(outputs, inputs, bits), "f", bias=True, residual=True), isa)
    x = rng.standard_normal((max(ROWS), inputs)).astype(np.float32)
    x[3] = 0
    residual = rng.standard_normal((max(ROWS), outputs)).astype(np.float32)
    q = quantized(x, ZERO[bits])
    expected = dequantized(*q[:2]) @ dequantized(codes, scales).T + bias + residual
    weight, bias_ = tensors(pack(codes, scales, bits).ravel(), bias)
    whole = None
    for n in reversed(ROWS):
        (out,) = tensors(np.full((n, outputs), np.nan, np.float32))
        kernel(*tensors(*(one[:n] for one in q)), weight, bias_, *tensors(residual[:n]), out)
        got = out.numpy()
        np.testing.assert_allclose(got, expected[:n], atol=2e-6 * np.abs(expected).max())
        whole = got if whole is None else whole
        assert np.array_equal(got, whole[:n]), f"{n} rows differ from the same rows among more"


@pytest.mark.parametrize("activation", ["silu", "gelu", "gelu_tanh"])
@pytest.mark.parametrize("isa", HERE, ids=lambda isa: isa.name)
def test_gated_products_are_activated_and_quantized(isa: Isa, activation: str) -> None:
    from edgellm.compile.kernels.matmul import MatmulShape, matmul_gated

    rng = np.random.default_rng(1)
    inner, inputs, n = 96, 128, 14
    codes, scales = random_weights(rng, 2 * inner, inputs, 4)
    kernel = compiled(matmul_gated(isa, MatmulShape(2 * inner, inputs, 4), "f", activation=activation), isa)
    q = quantized(rng.standard_normal((n, inputs)).astype(np.float32), 8)
    out = tensors(*activations(n, 128))
    for one in out:
        one.copyfrom(np.full(one.shape, 77, one.dtype))
    kernel(*tensors(*q), *tensors(pack(codes, scales, 4).ravel()), *out)
    gate, up = gate_and_up(dequantized(*q[:2]), dequantized(codes, scales))
    expected = activated(activation, gate) * up
    got_codes, got_scales, corrections = (one.numpy() for one in out)
    step = np.repeat(got_scales[:, :3], 32, axis=1)
    got = dequantized(got_codes, got_scales)[:, :inner]
    assert (np.abs(got - expected) <= step * 0.51 + 1e-6).all()
    assert not got_scales[:, 3].any() and not corrections[:, 3].any(), "what pads a row must count as zeros"
    sums = got_codes[:, :inner].reshape(n, 3, 32).astype(int).sum(axis=-1)
    assert np.array_equal(corrections[:, :3], -8 * sums)


@pytest.mark.parametrize("bits", FLOATS)
@pytest.mark.parametrize("isa", HERE, ids=lambda isa: isa.name)
@pytest.mark.parametrize(("outputs", "inputs"), [(48, 16), (64, 352)])
def test_products_of_floating_point_weights(isa: Isa, bits: int, outputs: int, inputs: int) -> None:
    from edgellm.compile.kernels.matmul import MatmulShape, matmul

    rng = np.random.default_rng(bits)
    weight = rng.standard_normal((outputs, inputs)).astype(np.float32)
    x = rng.standard_normal((max(ROWS), inputs)).astype(np.float32)
    bias, residual = (
        rng.standard_normal(outputs).astype(np.float32),
        rng.standard_normal((max(ROWS), outputs)),
    )
    kernel = compiled(matmul(isa, MatmulShape(outputs, inputs, bits), "f", bias=True, residual=True), isa)
    exact = weight.astype(FLOATS[bits]).astype(np.float64)
    expected = x.astype(np.float64) @ exact.T + bias + residual
    given = tensors(pack_floats(weight, bits).ravel(), bias)
    whole = None
    for n in reversed(ROWS):
        (out,) = tensors(np.full((n, outputs), np.nan, np.float32))
        kernel(*tensors(x[:n]), *given, *tensors(residual[:n].astype(np.float32)), out)
        got = out.numpy()
        np.testing.assert_allclose(got, expected[:n], atol=1e-6 * np.abs(expected).max())
        whole = got if whole is None else whole
        assert np.array_equal(got, whole[:n]), f"{n} rows differ from the same rows among more"


@pytest.mark.parametrize("bits", FLOATS)
@pytest.mark.parametrize("isa", HERE, ids=lambda isa: isa.name)
def test_gated_products_of_floating_point_weights(isa: Isa, bits: int) -> None:
    from edgellm.compile.kernels.matmul import MatmulShape, matmul_gated

    rng = np.random.default_rng(1)
    inner, inputs = 96, 80
    weight = rng.standard_normal((2 * inner, inputs)).astype(FLOATS[bits]).astype(np.float32) / 8
    x = rng.standard_normal((max(ROWS), inputs)).astype(np.float32)
    bias = rng.standard_normal(2 * inner).astype(np.float32)
    shape = MatmulShape(2 * inner, inputs, bits)
    kernel = compiled(matmul_gated(isa, shape, "f", activation="silu", bias=True), isa)
    gate, up = gate_and_up(np.hstack([x, np.ones((len(x), 1))]), np.hstack([weight, bias[:, None]]))
    for n in ROWS:
        (out,) = tensors(np.full((n, inner), np.nan, np.float32))
        kernel(*tensors(x[:n], pack_floats(weight, bits).ravel(), bias), out)
        np.testing.assert_allclose(out.numpy(), (activated("silu", gate) * up)[:n], rtol=1e-4, atol=1e-5)

"""Products with weight matrices, on few rows and on many, against numpy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgellm.compile.gpu.direct import direct
from edgellm.compile.gpu.export import export
from edgellm.compile.gpu.gemm import gemm
from edgellm.compile.gpu.kernel import GpuKernel
from edgellm.compile.gpu.matvec import matvec
from edgellm.compile.gpu.product import Product
from tests.compile.gpu.cases import activation, matrix, normal
from tests.compile.gpu.runner import Runner

INPUTS = 352
"""11 groups: no multiple of the slices."""


def check(
    device: Runner, make, p: Product, n: int, rng: np.random.Generator, tolerance: float = 2e-5
) -> None:
    """Run the kernel on `n` rows and compare; p.first and p.width take a part of a wider result."""
    kernel: GpuKernel = make(p)
    weight, packed = matrix(rng, p.outputs, p.inputs, p.bits)
    x = normal(rng, n, p.inputs).astype(p.source)
    width = p.width or p.outputs
    arrays = [x]
    values = x.astype(np.float32)
    if p.norm is not None:
        arrays.append(normal(rng, p.inputs))
        values = values / np.sqrt((values**2).mean(1, keepdims=True) + p.norm) * arrays[-1]
    arrays += packed
    want = np.zeros((n, width), np.float32)
    part = slice(p.first, p.first + p.outputs)
    want[:, part] = values @ weight.T
    if p.bias:
        arrays.append(normal(rng, width))
        want[:, part] += arrays[-1][part]
    if p.gated:
        want = np.where(want[:, 1::2] == 0, 0, activation(p.gated, want[:, ::2]) * want[:, 1::2])
    if p.residual:
        arrays.append(normal(rng, n, width))
        want[:, part] += arrays[-1][:, part]
    [got] = device.run(kernel, [*arrays, np.zeros_like(want, p.result)], {"n": n})
    assert np.abs(got - want).max() <= tolerance * np.abs(want).max()


def few(rows: int, slices: int = 4, width: int = 64):
    return lambda p: matvec(p, "product", rows=rows, slices=slices, width=width)


def many(rows: int, half_sums: bool = False):
    return lambda p: gemm(p, "product", rows=rows, half_sums=half_sums)


def alone(rows: int, each: int, half_sums: bool = False):
    """Without the workgroup's memory."""
    return lambda p: direct(p, "product", rows=rows, each=each, half_sums=half_sums)


@pytest.mark.parametrize("bits", [4, 8, 16, 32])
def test_one_row(device: Runner, bits: int, rng: np.random.Generator) -> None:
    check(device, few(1), Product(192, INPUTS, bits, bias=True, residual=True), 1, rng)


@pytest.mark.parametrize("bits", [4, 8, 16, 32])
def test_many_rows(device: Runner, bits: int, rng: np.random.Generator) -> None:
    check(device, many(32), Product(128, INPUTS, bits, bias=True, residual=True), 45, rng)


@pytest.mark.parametrize(
    ("rows", "slices", "width", "n"), [(4, 4, 64, 3), (4, 2, 64, 6), (8, 4, 64, 9), (4, 8, 32, 5)]
)
def test_few_rows(
    device: Runner, rows: int, slices: int, width: int, n: int, rng: np.random.Generator
) -> None:
    check(device, few(rows, slices, width), Product(192, INPUTS, 4, norm=1e-6, residual=True), n, rng)


@pytest.mark.parametrize(
    ("make", "kind"),
    [(few(4), "silu"), (few(1), "gelu"), (many(32), "gelu_tanh"), (many(64), "silu")],
    ids=["few", "one", "many", "more"],
)
def test_gated(device: Runner, make, kind: str, rng: np.random.Generator) -> None:
    check(device, make, Product(256, INPUTS, 4, gated=kind, bias=True), 7, rng)


@pytest.mark.parametrize("rows", [1, 4])
def test_norm_before(device: Runner, rows: int, rng: np.random.Generator) -> None:
    check(device, few(rows), Product(192, INPUTS, 4, bias=True, norm=1e-6), rows, rng)
    check(device, few(rows), Product(128, INPUTS, 16, gated="silu", norm=1e-6), rows, rng)


@pytest.mark.parametrize("make", [few(4), many(32)], ids=["few", "many"])
def test_part_of_a_matrix(device: Runner, make, rng: np.random.Generator) -> None:
    check(device, make, Product(64, 64, 4, bias=True, residual=False, first=128, width=256), 3, rng)
    check(device, make, Product(64, 64, 4, gated="silu", first=128, width=256), 3, rng)


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_half(half_device: Runner, bits: int, rng: np.random.Generator) -> None:
    p = Product(128, INPUTS, bits, half=True, source="float16", result="float16")
    check(half_device, few(4), p, 5, rng, 2e-3)
    check(half_device, many(32), p, 37, rng, 2e-3)
    check(half_device, many(32, half_sums=True), p, 37, rng, 5e-3)
    check(
        half_device, few(1), replace(p, source="float32", norm=1e-6, residual=True, result="float32"), 1, rng
    )


@pytest.mark.parametrize("bits", [4, 8, 16, 32])
def test_direct(device: Runner, bits: int, rng: np.random.Generator) -> None:
    """One row, and tiles that reach beyond the rows and beyond the outputs."""
    p = Product(192, INPUTS, bits, bias=True, residual=True)
    check(device, alone(1, 1), p, 1, rng)
    check(device, alone(8, 2), p, 13, rng)


@pytest.mark.parametrize("kind", ["silu", "gelu_tanh"])
def test_direct_and_gated(device: Runner, kind: str, rng: np.random.Generator) -> None:
    p = Product(192, INPUTS, 4, gated=kind, bias=True)
    check(device, alone(1, 2), p, 1, rng)
    check(device, alone(4, 4), p, 7, rng)
    check(device, alone(4, 2), Product(64, 64, 4, gated=kind, first=128, width=256), 3, rng)


@pytest.mark.parametrize("rows", [1, 4])
def test_direct_with_a_norm(device: Runner, rows: int, rng: np.random.Generator) -> None:
    check(device, alone(rows, 1), Product(192, INPUTS, 4, bias=True, norm=1e-6), 5, rng)
    check(device, alone(rows, 2), Product(128, INPUTS, 8, gated="silu", norm=1e-6), 5, rng)


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_direct_half(half_device: Runner, bits: int, rng: np.random.Generator) -> None:
    p = Product(192, INPUTS, bits, half=True, source="float16", result="float16")
    check(half_device, alone(1, 1), p, 5, rng, 2e-3)
    check(half_device, alone(8, 2, half_sums=True), p, 37, rng, 5e-3)


def test_direct_takes_no_memory_of_the_workgroup() -> None:
    for half_sums in (False, True):
        p = Product(192, INPUTS, 4, norm=None if half_sums else 1e-6, source="float16", half=True)
        kernel = direct(p, "product", rows=4, each=2, half_sums=half_sums)
        assert kernel.shared_bytes == 0 and kernel.threads == (64, 1, 1)
        assert "barrier" not in export(kernel, "opencl").text

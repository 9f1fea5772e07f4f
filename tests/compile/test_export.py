"""Kernels' texts: what is mended in them, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tvm.tirx.script.builder import ir as T  # noqa: N812

from edgellm.compile.gpu.export import access, export
from edgellm.compile.gpu.kernel import GpuKernel, KernelBuilder, bind, store
from edgellm.compile.gpu.mend import ExportError, mend_cuda, mend_metal, mend_opencl, mend_wgsl

LANGUAGES = ("wgsl", "opencl", "metal", "cuda")
Body = Callable[[dict[str, Any], Any, Any], None]


def kernel(body: Body, *, y: str = "write", x: str = "read") -> GpuKernel:
    """Rows of 4 numbers, by `body(buffers, sizes, (row, i))`."""
    with KernelBuilder("rows") as k:
        n, m = k.size("n"), k.size("m")
        buffers = {
            "x": k.buffer("x", n * 4, "float32", x),  # type: ignore[arg-type]
            "y": k.buffer("y", n * 4, "float32", y),  # type: ignore[arg-type]
        }
        with k.launch(("n",), (4,)) as ((row,), (i,)):
            body(buffers, (n, m), bind(row * 4 + i))
    return k.kernel


def copy(buffers: dict[str, Any], sizes: Any, at: Any) -> None:
    store(buffers["y"], at, buffers["x"][at])


def bounded(buffers: dict[str, Any], sizes: Any, at: Any) -> None:
    with T.If(at < sizes[1]), T.Then():
        store(buffers["y"], at, buffers["x"][at])


@pytest.mark.parametrize("language", LANGUAGES)
def test_only_sizes_that_are_used_are_passed(language: Any) -> None:
    without, one = export(kernel(copy), language), export(kernel(bounded), language)
    assert without.scalars == () and one.scalars == ("m",)
    assert without.entry == one.entry == "rows_kernel"
    for text in ("PODArgs", "_args_t", "int n", "n: i32", "packGridDimX", "gridDim"):
        assert text not in without.text
    assert {"wgsl": "  m: i32\n}", "opencl": ", int m) {", "metal": "  int m;\n};", "cuda": ", int m) {"}[
        language
    ] in one.text


def test_what_is_only_read_is_told() -> None:
    assert "__global const float* restrict b0_x_ptr, __global float* restrict b1_y_ptr" in (
        export(kernel(copy), "opencl").text
    )
    metal = export(kernel(copy), "metal").text
    assert "device const float* b0_x_ptr" in metal and "device float* b1_y_ptr" in metal
    assert "reqd_work_group_size(4, 1, 1)" in export(kernel(copy), "opencl").text
    cuda = (
        "__launch_bounds__(4) rows_kernel(const float* __restrict__ b0_x_ptr, float* __restrict__ b1_y_ptr) {"
    )
    assert cuda in export(kernel(copy), "cuda").text


@pytest.mark.parametrize("language", LANGUAGES)
def test_constants_are_exact(language: Any) -> None:
    def scale(buffers: dict[str, Any], sizes: Any, at: Any) -> None:
        store(buffers["y"], at, buffers["x"][at] * T.float32(0.123456789) + T.float32(-0.0123456789))

    text = export(kernel(scale), language).text
    if language == "cuda":
        found = {abs(float.fromhex(one)) for one in re.findall(r"0x[\da-f.]+p[-+]\d+(?=f)", text)}
        assert found == {float(np.float32(0.123456789)), float(np.float32(0.0123456789))}
    else:
        assert "1.23456791e-01f" in text and "1.23456791e-02f" in text


@pytest.mark.parametrize("language", LANGUAGES)
def test_constants_that_look_alike_are_refused(language: Any) -> None:
    def scale(buffers: dict[str, Any], sizes: Any, at: Any) -> None:
        store(buffers["y"], at, buffers["x"][at] * T.float32(0.12345678) + T.float32(0.12345681))

    with pytest.raises(ExportError, match=r"both written 1\.234568e-01"):
        export(kernel(scale), language)


def test_access_is_what_the_code_does() -> None:
    def add(buffers: dict[str, Any], sizes: Any, at: Any) -> None:
        store(buffers["y"], at, buffers["y"][at] + buffers["x"][at])

    assert access(kernel(copy)) == ("read", "write")
    assert access(kernel(add)) == ("read", "readwrite")
    with pytest.raises(ExportError, match="declares"):
        export(kernel(add), "wgsl")
    with pytest.raises(ExportError, match="declares"):
        export(kernel(copy, y="readwrite"), "opencl")
    assert export(kernel(add, y="readwrite"), "wgsl").text.count("read_write>") == 1


def test_a_buffer_that_is_not_used_is_refused() -> None:
    def nothing(buffers: dict[str, Any], sizes: Any, at: Any) -> None:
        store(buffers["y"], at, T.float32(1))

    with pytest.raises(ExportError, match="does not use its buffer b0_x"):
        export(kernel(nothing), "metal")


def test_half_floats_are_seen() -> None:
    def narrow(buffers: dict[str, Any], sizes: Any, at: Any) -> None:
        store(buffers["y"], at, T.cast(T.cast(buffers["x"][at], "float16"), "float32"))

    for language in LANGUAGES:
        assert export(kernel(narrow), language).half  # type: ignore[arg-type]
        assert not export(kernel(copy), language).half  # type: ignore[arg-type]


@pytest.mark.parametrize("mend", [mend_wgsl, mend_opencl, mend_metal, mend_cuda])
def test_a_text_that_is_not_known_is_refused(mend: Any) -> None:
    """As when TVM writes it in another way."""
    made = kernel(bounded)
    known = mend.__name__.removeprefix("mend_")
    mended = export(made, known).text  # type: ignore[arg-type]
    for text in ("", mended):
        with pytest.raises(ExportError):
            mend(text, made, "rows_kernel")


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_same_kernel_gives_the_same_text(language: Any) -> None:
    assert export(kernel(bounded), language) == export(kernel(bounded), language)

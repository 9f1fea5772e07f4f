"""Compiling one kernel, and the same arithmetic in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgellm.backends.tvm.isa import NEEDS
from edgellm.compile.isa import ARM64, X86_64, Isa
from edgellm.machine import read_cpu

HERE = [isa for isa in (*X86_64, *ARM64) if NEEDS[isa.name] <= set(read_cpu().features)]
"""Instruction sets of this processor."""


def compiled(function: Any, isa: Isa) -> Any:
    """The kernel (called "f"), ready to call with tensors."""
    import tvm

    from edgellm.compile.pipeline import compile_kernels

    return tvm.runtime.Executable(compile_kernels(tvm.IRModule({"f": function}), isa))["f"]


def tensors(*arrays: np.ndarray) -> list[Any]:
    """As a kernel takes them."""
    import tvm

    return [tvm.runtime.tensor(np.ascontiguousarray(array)) for array in arrays]


def quantized(x: np.ndarray, zero: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """codes, scales, corrections of x float32[n, width], as the kernels make them."""
    groups = x.reshape(len(x), -1, 32)
    peak = np.abs(groups).max(axis=-1)
    codes = np.rint(groups * (127 / np.maximum(peak, 1e-30))[..., None]).astype(np.int8)
    corrections = (-zero * codes.astype(np.int32).sum(axis=-1)).astype(np.int32)
    return codes.reshape(x.shape), (peak / 127).astype(np.float32), corrections


def dequantized(codes: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """float32[n, width] that codes and scales of groups stand for."""
    values: np.ndarray = codes.reshape(len(codes), -1, 32) * scales.astype(np.float32)[..., None]
    return values.reshape(codes.shape)


def random_weights(
    rng: np.random.Generator, rows: int, columns: int, bits: int
) -> tuple[np.ndarray, np.ndarray]:
    """Codes int8[rows, columns] over their whole range, and fp16 scales."""
    low, high = (-8, 8) if bits == 4 else (-127, 128)
    scales = (rng.standard_normal((rows, columns // 32)) * 0.01).astype(np.float16)
    return rng.integers(low, high, (rows, columns)).astype(np.int8), scales


def activations(rows: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Room for quantized activations."""
    groups = width // 32
    return (
        np.zeros((rows, width), np.int8),
        np.zeros((rows, groups), np.float32),
        np.zeros((rows, groups), np.int32),
    )

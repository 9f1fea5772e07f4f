"""Weights as kernels read them, and what they stand for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgellm.quantize import int4, int8
from edgellm.quantize.gpu_layout import pack, pack_floats, pack_scales

Floats = NDArray[np.float32]


def matrix(
    rng: np.random.Generator, outputs: int, inputs: int, bits: int
) -> tuple[Floats, list[NDArray[Any]]]:
    """Random weights: the numbers float32[outputs, inputs] that a kernel should see, and its arguments."""
    weight = (rng.standard_normal((outputs, inputs)) * 0.1).astype(np.float32)
    if bits >= 16:
        return weight.astype(f"float{bits}").astype(np.float32), [pack_floats(weight, bits)]
    codes, scales = (int4.quantize if bits == 4 else int8.quantize_groups)(weight)
    seen = codes.reshape(outputs, -1, 32) * scales.astype(np.float32)[..., None]
    return seen.reshape(outputs, inputs), [pack(codes, bits), pack_scales(scales)]


def normal(rng: np.random.Generator, *shape: int) -> Floats:
    """Normally distributed numbers."""
    return rng.standard_normal(shape).astype(np.float32)


def activation(kind: str, x: Floats) -> Floats:
    """As the kernels' `activate`."""
    import math

    if kind == "silu":
        return x / (1 + np.exp(-x))
    if kind == "gelu_tanh":
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / np.sqrt(2)))

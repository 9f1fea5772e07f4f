"""What all schemes and layouts share: groups, bits of a weight, and the numbers that fp16 can hold."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

GROUP = 32
"""Neighbours along the input dimension that share a scale."""
BITS = {"int4": 4, "int8": 8, "fp16": 16, "fp32": 32}
"""Of a weight, by the name of the quantization."""
ZERO = {4: 8, 8: 128}
"""What is added to codes of so many bits to make them unsigned; other weights are no codes."""
LARGEST_HALF = float(np.finfo(np.float16).max)


def padded(count: int, multiple: int) -> int:
    """`count` rounded up to a multiple."""
    return -(-count // multiple) * multiple


def as_floats(weight: NDArray[np.float32], bits: int) -> NDArray[np.floating]:
    """Weights in fp16 (magnitudes beyond its range are held at its largest) or fp32."""
    if bits == 16:
        return np.clip(weight, -LARGEST_HALF, LARGEST_HALF).astype(np.float16)
    return weight

"""int8: symmetric, one scale for each row (output feature) of a matrix.

    scale = 127 / max |row|        q = round(row * scale), ties to even        row ≈ q / scale

A row of zeros has scale 1, so that dividing by a scale is always safe.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgellm.quantize.formats import GROUP, LARGEST_HALF

Int8s = NDArray[np.int8]
Float32s = NDArray[np.float32]

LEVELS = np.float32(127)
# Below this maximum the scale would overflow float32.
_SMALLEST_MAXIMUM = LEVELS / np.finfo(np.float32).max


def quantize_rows(weight: Float32s, values: Int8s, scales: Float32s) -> None:
    """Quantize each row of a matrix; every arithmetic step is one float32 rounding, so results are exact.

    Args:
        weight: float32[n, k], finite.
        values: int8[n, k], written.
        scales: float32[n], written; multiply a weight by it to get its integer.
    """
    maxima = np.maximum(weight.max(axis=1), -weight.min(axis=1))
    maxima[maxima == 0] = LEVELS
    np.divide(LEVELS, np.maximum(maxima, _SMALLEST_MAXIMUM), out=scales)
    scaled = weight * scales[:, None]
    np.rint(scaled, out=scaled)
    # The cast needs no clipping: max |row| * (127 / max |row|) is at most 127 plus two roundings.
    np.copyto(values, scaled, casting="unsafe")


def dequantize_rows(values: Int8s, scales: Float32s) -> Float32s:
    """float32[n, k] that `values` int8[n, k] and `scales` float32[n] stand for."""
    return np.divide(values, scales[:, None], dtype=np.float32)


def quantize_groups(weight: Float32s) -> tuple[Int8s, NDArray[np.float16]]:
    """Quantize with one fp16 scale for every 32 neighbours of a row; value ≈ code * scale.

    Args:
        weight: float32[n, k], finite; k is a multiple of 32.

    Returns:
        codes int8[n, k] in -127..127, scales float16[n, k / 32].
    """
    groups = weight.reshape(-1, GROUP)
    largest = np.maximum(groups.max(axis=1), -groups.min(axis=1))
    scales = np.minimum(largest / LEVELS, LARGEST_HALF).astype(np.float16)
    stored = scales.astype(np.float32)
    inverse = np.divide(np.float32(1), stored, out=np.zeros_like(stored), where=stored != 0)
    scaled = groups * inverse[:, None]
    np.clip(np.rint(scaled, out=scaled), -LEVELS, LEVELS, out=scaled)
    return scaled.astype(np.int8).reshape(weight.shape), scales.reshape(len(weight), -1)

"""int8: symmetric, one scale for each row (output feature) of a matrix.

    scale = 127 / max |row|        q = round(row * scale), ties to even        row ≈ q / scale

A row of zeros has scale 1, so that dividing by a scale is always safe.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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

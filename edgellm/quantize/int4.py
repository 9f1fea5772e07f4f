"""int4: symmetric, one fp16 scale for every 32 neighbours along the input dimension.

    w[o, i] ≈ code[o, i] * scale[o, i // 32]        code in -8..7

The scale of a group starts from its entry of largest magnitude, which becomes -8 exactly (so all sixteen
codes are
of use). A search then tries scales around it, and for each the best scale for the codes it rounds to (least
squares);
what gives the smallest squared error stays. Scales carry a sign, so the largest entry may have either.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from edgellm.quantize.formats import GROUP, LARGEST_HALF

Int8s = NDArray[np.int8]
Float16s = NDArray[np.float16]
Float32s = NDArray[np.float32]

# Divisors of the largest entry that are tried, besides 8: the group's range in steps.
_STEPS = (8.0, 7.75, 7.5, 7.25, 7.0, 8.4, 8.9)
_CHUNK = 1 << 19


def quantize(weight: Float32s, *, search: bool = True, threads: int = 2) -> tuple[Int8s, Float16s]:
    """Codes and scales of a matrix.

    Args:
        weight: float32[o, i], finite; i is a multiple of 32.
        search: look for the scales of least squared error instead of rounding to the nearest.

    Returns:
        codes int8[o, i] in -8..7, scales float16[o, i / 32].

    Raises:
        ValueError: i is not a multiple of 32.
    """
    outputs, inputs = weight.shape
    if inputs % GROUP:
        raise ValueError(f"the input dimension is {inputs}; int4 needs a multiple of {GROUP}")
    groups = weight.reshape(-1, GROUP)
    codes = np.empty(groups.shape, np.int8)
    scales = np.empty(len(groups), np.float16)

    def one(start: int) -> None:
        part = slice(start, start + _CHUNK // GROUP)
        _quantize_groups(groups[part], codes[part], scales[part], _STEPS if search else _STEPS[:1])

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(one, range(0, len(groups), _CHUNK // GROUP)))
    return codes.reshape(weight.shape), scales.reshape(outputs, inputs // GROUP)


def dequantize(codes: Int8s, scales: Float16s) -> Float32s:
    """float32[o, i] that `codes` int8[o, i] and `scales` float16[o, i / 32] stand for."""
    groups = codes.reshape(*scales.shape, GROUP) * scales.astype(np.float32)[..., None]
    return groups.reshape(codes.shape)


def _quantize_groups(groups: Float32s, codes: Int8s, scales: Float16s, steps: tuple[float, ...]) -> None:
    """Fill `codes` int8[g, 32] and `scales` float16[g] for `groups` float32[g, 32]."""
    largest = groups[np.arange(len(groups)), np.abs(groups).argmax(axis=1)]
    best_error = np.full(len(groups), np.inf, np.float32)
    best = np.zeros(len(groups), np.float32)
    rounded, scratch = np.empty_like(groups), np.empty_like(groups)
    for step in steps:
        scale = _as_fp16(largest / np.float32(-step))
        for _ in range(1 if len(steps) == 1 else 2):
            _round(groups, scale, rounded)
            np.multiply(rounded, scale[:, None], out=scratch)
            np.subtract(scratch, groups, out=scratch)
            error = np.einsum("gi,gi->g", scratch, scratch)
            better = error < best_error
            best[better], best_error[better] = scale[better], error[better]
            # The scale of least squared error for these codes; the next round finds what rounds to it.
            power = np.einsum("gi,gi->g", rounded, rounded)
            overlap = np.einsum("gi,gi->g", rounded, groups)
            scale = _as_fp16(np.divide(overlap, power, out=scale.copy(), where=power > 0))
    _round(groups, best, rounded)
    np.copyto(codes, rounded, casting="unsafe")
    scales[:] = best


def _as_fp16(scale: Float32s) -> Float32s:
    """The scale that will be stored, as float32: error is measured with it."""
    stored: Float32s = np.clip(scale, -LARGEST_HALF, LARGEST_HALF).astype(np.float16).astype(np.float32)
    return stored


def _round(groups: Float32s, scale: Float32s, out: Float32s) -> None:
    """round(groups / scale) limited to -8..7; zeros where the scale is 0."""
    inverse = np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale != 0)
    np.multiply(groups, inverse[:, None], out=out)
    np.rint(out, out=out)
    np.clip(out, -8, 7, out=out)

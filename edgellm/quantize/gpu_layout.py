"""Matrices in the order that GPU kernels read them.

Neighbouring threads take neighbouring outputs, so what they load at the same time lies side by side: a matrix
is [pieces of the inputs, outputs] of four 32-bit words each. A piece of 4-bit codes is a group of 32 inputs,
eight codes + 8 to a word, the first in the lowest bits; of 8-bit codes it is half a group, four codes + 128
to a word; of fp16 it is 8 inputs, two to a word; of fp32, 4 inputs. Scales stand in an array of their own:
[groups, outputs] in fp16, two to a word.

Outputs are padded to a multiple of 64 and inputs to groups of 32, with zeros.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgellm.quantize.formats import GROUP, ZERO, as_floats, padded

OUTPUTS = 64


def piece_inputs(bits: int) -> int:
    """Inputs of four words."""
    return 128 // bits


def pack(codes: NDArray[np.int8], bits: int) -> NDArray[np.uint32]:
    """Codes int8[o, i] of 4 or 8 bits as uint32[pieces, outputs, 4]."""
    unsigned = _padded(codes.view(np.uint8) + np.uint8(ZERO[bits]), ZERO[bits]).astype(np.uint32)
    each = 32 // bits
    words = unsigned.reshape(len(unsigned), -1, 4, each)
    shifts = np.arange(each, dtype=np.uint32) * np.uint32(bits)
    return np.ascontiguousarray(np.bitwise_or.reduce(words << shifts, axis=-1).transpose(1, 0, 2))


def pack_scales(scales: NDArray[np.float16]) -> NDArray[np.uint32]:
    """Scales float16[o, groups] as uint32[groups, outputs / 2]."""
    rows = padded(len(scales), OUTPUTS)
    full = np.zeros((scales.shape[1], rows), np.float16)
    full[:, : len(scales)] = scales.T
    return full.view(np.uint32)


def pack_floats(weight: NDArray[np.float32], bits: int) -> NDArray[np.uint32]:
    """float32[o, i] in fp16 (magnitudes beyond its range are held at its largest) or fp32, as
    uint32[pieces, outputs, 4].
    """
    values = _padded(as_floats(weight, bits), 0)
    words = values.view(np.uint32).reshape(len(values), -1, 4)
    return np.ascontiguousarray(words.transpose(1, 0, 2))


def _padded(values: NDArray[np.generic], fill: int) -> NDArray[np.generic]:
    rows, columns = values.shape
    more = ((0, padded(rows, OUTPUTS) - rows), (0, padded(columns, GROUP) - columns))
    return np.pad(values, more, constant_values=fill)

"""Matrices in the order that CPU kernels read them.

Outputs stand in blocks of 16. A block is a row of runs. Of quantized weights, a run is 64 inputs (two groups
of 32):

    32 fp16 scales: 16 outputs for the first group, 16 for the second
    for each group, lines of 64 bytes, 4 neighbouring inputs of 16 outputs to a line:
        8 bits: 8 lines, a byte is code + 128
        4 bits: 4 lines, a byte is code + 8 of input i (low nibble) and of input i + 16 (high nibble)

Of floating-point weights (16 bits: fp16, 32 bits: fp32) it is 16 inputs, the 16 outputs of each side by side.

Outputs are padded to a multiple of 16 and inputs to whole runs, with zeros.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgellm.quantize.formats import GROUP, ZERO, as_floats, padded

BLOCK = 16
RUN = 64
"""Inputs of a run of quantized weights."""
_FLOAT_RUN = 16


def run_inputs(bits: int) -> int:
    """Inputs of a run of weights of so many bits."""
    return RUN if bits in ZERO else _FLOAT_RUN


def run_bytes(bits: int) -> int:
    """Bytes of 16 outputs and the inputs of a run."""
    scales = 2 * BLOCK * RUN // GROUP if bits in ZERO else 0
    return scales + BLOCK * run_inputs(bits) * bits // 8


def packed_bytes(outputs: int, inputs: int, bits: int) -> int:
    """Bytes of a packed matrix."""
    runs = padded(inputs, run_inputs(bits)) // run_inputs(bits)
    return padded(outputs, BLOCK) // BLOCK * runs * run_bytes(bits)


def pack(codes: NDArray[np.int8], scales: NDArray[np.float16], bits: int) -> NDArray[np.uint8]:
    """Pack a quantized matrix.

    Args:
        codes: int8[o, i]. scales: float16[o, i / 32]. bits: 4 or 8.

    Returns:
        uint8[blocks, runs, bytes of a run].
    """
    outputs, inputs = codes.shape
    rows, columns = padded(outputs, BLOCK), padded(inputs, RUN)
    if (rows, columns) != codes.shape:
        codes = np.pad(codes, ((0, rows - outputs), (0, columns - inputs)))
        scales = np.pad(scales, ((0, rows - outputs), (0, columns // GROUP - scales.shape[1])))
    blocks, runs = rows // BLOCK, columns // RUN
    unsigned = (codes.view(np.uint8) + np.uint8(ZERO[bits])).reshape(blocks, BLOCK, runs, 2, GROUP)
    out = np.empty((blocks, runs, run_bytes(bits)), np.uint8)
    out[:, :, :RUN] = (
        np.ascontiguousarray(scales.reshape(blocks, BLOCK, runs, 2).transpose(0, 2, 3, 1))
        .view(np.uint8)
        .reshape(blocks, runs, RUN)
    )
    if bits == 4:
        halves = unsigned.reshape(blocks, BLOCK, runs, 2, 2, 4, 4)
        unsigned = np.bitwise_or(halves[..., 0, :, :], halves[..., 1, :, :] << np.uint8(4))
    lines = unsigned.reshape(blocks, BLOCK, runs, 2, -1, 4).transpose(0, 2, 3, 4, 1, 5)
    out[:, :, RUN:] = lines.reshape(blocks, runs, -1)
    return out


def pack_floats(weight: NDArray[np.float32], bits: int) -> NDArray[np.uint8]:
    """Pack a matrix without quantizing it; magnitudes beyond fp16's are held at its largest.

    Args:
        weight: float32[o, i]. bits: 16 or 32.

    Returns:
        uint8[blocks, runs, bytes of a run].
    """
    outputs, inputs = weight.shape
    rows, columns = padded(outputs, BLOCK), padded(inputs, _FLOAT_RUN)
    weight = np.pad(weight, ((0, rows - outputs), (0, columns - inputs)))
    blocks, runs = rows // BLOCK, columns // _FLOAT_RUN
    lines = as_floats(weight, bits).reshape(blocks, BLOCK, runs, _FLOAT_RUN).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(lines).view(np.uint8).reshape(blocks, runs, -1)

"""Quantized matrices in the order that CPU kernels read them.

Outputs stand in blocks of 16. A block is a row of runs, one for every 64 inputs (two groups of 32):

    32 fp16 scales: 16 outputs for the first group, 16 for the second
    for each group, lines of 64 bytes, 4 neighbouring inputs of 16 outputs to a line:
        8 bits: 8 lines, a byte is code + 128
        4 bits: 4 lines, a byte is code + 8 of input i (low nibble) and of input i + 16 (high nibble)

Outputs are padded to a multiple of 16 and inputs to one of 64, with codes and scales of 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK = 16
GROUP = 32
RUN = 64
ZERO = {4: 8, 8: 128}
"""What is added to codes of so many bits to make them unsigned."""


def padded(count: int, multiple: int) -> int:
    """`count` rounded up to a multiple."""
    return -(-count // multiple) * multiple


def run_bytes(bits: int) -> int:
    """Bytes of 16 outputs and 64 inputs."""
    return RUN + BLOCK * RUN * bits // 8


def packed_bytes(outputs: int, inputs: int, bits: int) -> int:
    """Bytes of a packed matrix."""
    return padded(outputs, BLOCK) // BLOCK * (padded(inputs, RUN) // RUN) * run_bytes(bits)


def pack(codes: NDArray[np.int8], scales: NDArray[np.float16], bits: int) -> NDArray[np.uint8]:
    """Pack a matrix.

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

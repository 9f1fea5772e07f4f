"""The order of packed weights, unpacked by its written description."""

from __future__ import annotations

import numpy as np
import pytest

from edgellm.quantize.cpu_layout import pack, packed_bytes


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("shape", [(16, 64), (40, 96), (3, 32)])
def test_every_code_and_scale_stands_where_it_should(bits: int, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    limit = 8 if bits == 4 else 127
    codes = rng.integers(-limit, limit, shape).astype(np.int8)
    scales = rng.random((shape[0], shape[1] // 32)).astype(np.float16)
    packed = pack(codes, scales, bits)
    assert packed.nbytes == packed_bytes(*shape, bits)
    lines = 4 if bits == 4 else 8
    for output in range(packed.shape[0] * 16):
        for position in range(packed.shape[1] * 64):
            run = packed[output // 16, position // 64]
            half, place = divmod(position % 64, 32)
            nibble, within = divmod(place, 16) if bits == 4 else (0, place)
            byte = int(run[64 + (half * lines + within // 4) * 64 + output % 16 * 4 + within % 4])
            code = (byte >> 4 * nibble & 15) - 8 if bits == 4 else byte - 128
            scale = run[:64].view(np.float16)[half * 16 + output % 16]
            inside = output < shape[0] and position < shape[1]
            assert code == (codes[output, position] if inside else 0)
            assert scale == (scales[output, position // 32] if inside else 0)

"""The order in which GPU kernels read matrices, taken apart again by its description."""

from __future__ import annotations

import numpy as np
import pytest

from edgellm.quantize import int4, int8
from edgellm.quantize.gpu_layout import pack, pack_floats, pack_scales
from tests.backends.plan.stored import dequantized


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("outputs", "inputs"), [(64, 32), (100, 96), (192, 256)])
def test_codes_and_scales_stand_for_the_quantized_numbers(bits: int, outputs: int, inputs: int) -> None:
    weight = np.random.default_rng(outputs).standard_normal((outputs, inputs)).astype(np.float32)
    codes, scales = (int4.quantize if bits == 4 else int8.quantize_groups)(weight)
    expected = codes.reshape(outputs, -1, 32) * scales.astype(np.float32)[:, :, None]
    found = dequantized(
        pack(codes, bits).ravel().view(np.uint8), pack_scales(scales).ravel().view(np.uint8), inputs
    )
    assert found.shape == (-(-outputs // 64) * 64, inputs)
    np.testing.assert_array_equal(found[:outputs], expected.reshape(outputs, inputs))
    assert not found[outputs:].any()


@pytest.mark.parametrize("bits", [16, 32])
def test_floats_stand_as_they_are(bits: int) -> None:
    weight = np.random.default_rng(0).standard_normal((100, 96)).astype(np.float32)
    words = pack_floats(weight, bits)
    each = 128 // bits
    values = words.view(f"float{bits}").reshape(96 // each, 128, each).transpose(1, 0, 2).reshape(128, 96)
    np.testing.assert_array_equal(values[:100], weight.astype(f"float{bits}"))
    assert not values[100:].any()

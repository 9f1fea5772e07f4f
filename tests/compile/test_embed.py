"""Rows of the embedding matrix, in every packing."""

from __future__ import annotations

import numpy as np
import pytest

from edgellm.quantize.cpu_layout import pack, pack_floats
from tests.compile.kernels import HERE, compiled, dequantized, random_weights, tensors

VOCABULARY, WIDTH = 48, 96
FACTOR = 3.5


@pytest.mark.parametrize("bits", [4, 8, 16, 32])
def test_rows_are_what_was_packed(bits: int) -> None:
    from edgellm.compile.kernels.embed import embed
    from edgellm.compile.kernels.matmul import MatmulShape

    rng = np.random.default_rng(bits)
    if bits < 16:
        codes, scales = random_weights(rng, VOCABULARY, WIDTH, bits)
        weight, packed, inputs = dequantized(codes, scales), pack(codes, scales, bits), 128
    else:
        weight = rng.standard_normal((VOCABULARY, WIDTH)).astype(np.float32)
        weight[7, 5], weight[40, 95] = 1e6, -1e6  # beyond fp16
        packed, inputs = pack_floats(weight, bits), WIDTH
        if bits == 16:
            weight = np.clip(weight, -65504, 65504).astype(np.float16).astype(np.float32)
    kernel = compiled(embed(MatmulShape(VOCABULARY, inputs, bits), WIDTH, "f", factor=FACTOR), HERE[0])
    for ids in ([47], [0, 0, 7], [40, 16, 15, 31, 47, 7, 3, 32, 1]):
        (out,) = tensors(np.full((len(ids), WIDTH), np.nan, np.float32))
        kernel(*tensors(np.array(ids, np.int32), packed.ravel()), out)
        np.testing.assert_allclose(out.numpy(), weight[ids] * np.float32(FACTOR), rtol=3e-7)

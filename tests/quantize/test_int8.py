"""Row-wise int8: exact numbers, bounds, and edge rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgellm.quantize.int8 import dequantize_rows, quantize_rows


def quantize(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values = np.empty(weight.shape, np.int8)
    scales = np.empty(weight.shape[0], np.float32)
    quantize_rows(weight, values, scales)
    return values, scales


def test_numbers_of_a_small_matrix() -> None:
    weight = np.array([[1.0, -2.0, 0.5], [0.0, 0.0, 0.0], [127.0, 2.5, -3.5]], np.float32)
    values, scales = quantize(weight)
    assert values.tolist() == [[64, -127, 32], [0, 0, 0], [127, 2, -4]]  # ties go to the even integer
    assert scales.tolist() == [63.5, 1.0, 1.0]


@settings(max_examples=200, deadline=None)
@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 5), st.integers(1, 17)),
        elements=st.floats(-(2.0**100), 2.0**100, width=32),
    )
)
def test_error_is_at_most_half_a_step(weight: np.ndarray) -> None:
    values, scales = quantize(weight)
    assert np.isfinite(scales).all() and (scales > 0).all()
    step = 1 / scales.astype(np.float64)[:, None]
    error = np.abs(values / scales.astype(np.float64)[:, None] - weight)
    assert (error <= step * 0.5001).all()
    assert (np.abs(values.astype(int)).max(axis=1) <= 127).all()


@pytest.mark.parametrize("tiny", [1e-45, 1e-40, 3e-38])
def test_rows_of_subnormal_numbers_keep_finite_scales(tiny: float) -> None:
    values, scales = quantize(np.array([[tiny, -tiny, 0.0]], np.float32))
    assert np.isfinite(scales).all()
    assert np.isfinite(dequantize_rows(values, scales)).all()


def test_same_numbers_as_ctranslate2() -> None:
    from tests.support import require

    require(
        module="ctranslate2", reason="compares with its own quantizer: pip install 'edgellm[ctranslate2]'"
    )
    from ctranslate2.specs import common_spec

    rng = np.random.default_rng(3)
    weight = rng.standard_normal((67, 129), dtype=np.float32) * 0.02
    weight[5] = 0
    weight[6] *= 1e-30
    spec = common_spec.LinearSpec()
    spec.weight = weight.copy()
    spec.validate()
    spec.optimize("int8")
    values, scales = quantize(weight)
    assert np.array_equal(spec.weight.numpy(), values)
    assert np.array_equal(spec.weight_scale.numpy(), scales)

"""int4: exact numbers, bounds, and that the search pays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgellm.quantize.int4 import dequantize, quantize


def test_numbers_of_one_group() -> None:
    weight = np.zeros((1, 32), np.float32)
    weight[0, :5] = [-4.0, 3.5, 0.5, 1.0, -1.5]
    codes, scales = quantize(weight)
    assert scales.tolist() == [[0.5]]
    assert codes[0, :5].tolist() == [-8, 7, 1, 2, -3]
    assert not codes[0, 5:].any()


def test_a_positive_largest_entry_uses_all_sixteen_codes() -> None:
    weight = np.linspace(8, -7, 32, dtype=np.float32)[None]
    codes, scales = quantize(weight, search=False)
    assert scales.tolist() == [[-1.0]] and codes[0, 0] == -8 and codes[0, -1] == 7


def test_zeros_stay_zeros() -> None:
    codes, scales = quantize(np.zeros((3, 64), np.float32))
    assert not codes.any() and np.isfinite(scales).all()
    assert not dequantize(codes, scales).any()


def test_other_widths_are_refused() -> None:
    with pytest.raises(ValueError, match="40"):
        quantize(np.zeros((2, 40), np.float32))


@settings(max_examples=100, deadline=None)
@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 3), st.sampled_from([32, 64])),
        elements=st.floats(-1000, 1000, width=32),
    )
)
def test_the_search_is_never_worse_and_codes_stay_in_range(weight: np.ndarray) -> None:
    errors = []
    for search in (False, True):
        codes, scales = quantize(weight, search=search)
        assert codes.min() >= -8 and codes.max() <= 7 and np.isfinite(scales).all()
        errors.append(((dequantize(codes, scales) - weight) ** 2).reshape(-1, 32).sum(axis=1))
    assert (errors[1] <= errors[0] * 1.0001 + 1e-9).all()


def test_the_search_lowers_the_error_of_ordinary_weights() -> None:
    weight = np.random.default_rng(0).standard_normal((256, 512), dtype=np.float32) * 0.02
    plain, searched = (dequantize(*quantize(weight, search=search)) for search in (False, True))
    assert np.square(searched - weight).sum() < 0.92 * np.square(plain - weight).sum()


def test_chunks_and_threads_change_nothing() -> None:
    weight = np.random.default_rng(1).standard_normal((1200, 1024), dtype=np.float32)
    codes, scales = quantize(weight, threads=3)
    again = quantize(weight[700:701], threads=1)
    assert np.array_equal(codes[700:701], again[0]) and np.array_equal(scales[700:701], again[1])

"""Rotary frequencies at the edges of their formulas (the recorded references cover the ordinary cases)."""

from __future__ import annotations

import numpy as np
import pytest

from edgellm.bundle.model_config import Rope, RopeScaling
from edgellm.compile.rotary import attention_factor, frequencies

PLAIN = 10_000.0 ** -(np.arange(0, 64, 2) / 64)


def rope(**scaling: object) -> Rope:
    return Rope(theta=10_000.0, dim=64, scaling=RopeScaling(**scaling) if scaling else None)  # type: ignore[arg-type]


def test_without_scaling() -> None:
    assert np.allclose(frequencies(rope(), 100), PLAIN, rtol=1e-15)
    assert attention_factor(rope()) == 1.0


def test_linear_divides_everything() -> None:
    assert np.allclose(frequencies(rope(kind="linear", factor=4.0), 100), PLAIN / 4)


def test_llama3_keeps_short_waves_and_stretches_long_ones() -> None:
    scaled = frequencies(
        rope(kind="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_context=8192),
        100,
    )
    waves = 2 * np.pi / PLAIN
    short, long = waves < 8192 / 4, waves > 8192
    assert np.allclose(scaled[short], PLAIN[short]) and short.any()
    assert np.allclose(scaled[long], PLAIN[long] / 8) and long.any()
    between = ~short & ~long
    assert between.any()
    assert ((scaled[between] < PLAIN[between]) & (scaled[between] > PLAIN[between] / 8)).all()


def test_llama3_with_equal_factors_is_a_step() -> None:
    scaled = frequencies(
        rope(kind="llama3", factor=8.0, low_freq_factor=2.0, high_freq_factor=2.0, original_context=512), 100
    )
    kept = 2 * np.pi / PLAIN <= 256
    assert np.allclose(scaled, np.where(kept, PLAIN, PLAIN / 8))


@pytest.mark.parametrize("truncate", [True, False])
def test_yarn_keeps_fast_pairs_and_stretches_slow_ones(truncate: bool) -> None:
    scaled = frequencies(
        rope(kind="yarn", factor=4.0, original_context=4096, truncate=truncate, attention_factor=1.3), 100
    )
    assert scaled[0] == pytest.approx(PLAIN[0])
    assert scaled[-1] == pytest.approx(PLAIN[-1] / 4)
    assert (np.diff(scaled / PLAIN) <= 1e-12).all()
    assert attention_factor(rope(kind="yarn", attention_factor=1.3)) == 1.3


def test_longrope_chooses_its_table_by_the_context() -> None:
    long, short = tuple(2.0 + i for i in range(32)), tuple(1.0 + i / 10 for i in range(32))
    scaled = rope(kind="longrope", original_context=100, long_factor=long, short_factor=short)
    assert np.allclose(frequencies(scaled, 100), PLAIN / np.array(short))
    assert np.allclose(frequencies(scaled, 101), PLAIN / np.array(long))

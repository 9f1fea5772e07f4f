"""Rotary frequencies of every kind of scaling, as plain numbers for any backend.

All of them turn pair i of a head's rotary entries by `position * frequency[i]` and may multiply cosines and
sines by one factor. Formulas: transformers' `modeling_rope_utils.py` and the papers named below.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edgellm.bundle.model_config import Rope, RopeScaling

Float64s = NDArray[np.float64]


def frequencies(rope: Rope, context: int) -> Float64s:
    """Radians per position, float64[rope.dim // 2].

    Args:
        rope: as in the model's configuration.
        context: tokens one sequence may hold. longrope has two tables; the long one is taken for every
            position as soon as `context` exceeds the original context, so that a sequence never changes
            tables while keys of the other one are in the cache (vLLM and llama.cpp choose alike).
    """
    base = rope.theta ** -(np.arange(0, rope.dim, 2, dtype=np.float64) / rope.dim)
    scaling = rope.scaling
    if scaling is None:
        return base
    match scaling.kind:
        case "linear":
            return base / scaling.factor
        case "llama3":
            return _llama3(base, scaling)
        case "yarn":
            return _yarn(base, rope, scaling)
        case "longrope":
            long = context > scaling.original_context
            return base / np.array(scaling.long_factor if long else scaling.short_factor, dtype=np.float64)


def attention_factor(rope: Rope) -> float:
    """What cosines and sines are multiplied by."""
    scaling = rope.scaling
    if scaling is None or scaling.kind not in ("yarn", "longrope") or scaling.attention_factor is None:
        return 1.0
    return scaling.attention_factor


def _llama3(base: Float64s, scaling: RopeScaling) -> Float64s:
    """Llama 3.1: long waves are stretched, short ones kept, those between blended by their frequency."""
    turns = scaling.original_context * base / (2 * math.pi)
    span = scaling.high_freq_factor - scaling.low_freq_factor
    # With equal factors there is no band between, only a step.
    kept = (
        np.clip((turns - scaling.low_freq_factor) / span, 0, 1) if span else turns >= scaling.high_freq_factor
    )
    stretched: Float64s = base * ((1 - kept) / scaling.factor + kept)
    return stretched


def _yarn(base: Float64s, rope: Rope, scaling: RopeScaling) -> Float64s:
    """YaRN, section 3.2 (Peng et al. 2023, https://arxiv.org/abs/2309.00071)."""

    def pair_turning(times: float) -> float:
        """Index of the pair that turns so many times within the original context."""
        wave = scaling.original_context / (times * 2 * math.pi)
        return rope.dim * math.log(wave) / (2 * math.log(rope.theta))

    low, high = pair_turning(scaling.beta_fast), pair_turning(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rope.dim - 1)
    if low == high:
        high += 0.001
    stretched = np.clip((np.arange(len(base)) - low) / (high - low), 0, 1)
    blended: Float64s = base * (stretched / scaling.factor + (1 - stretched))
    return blended

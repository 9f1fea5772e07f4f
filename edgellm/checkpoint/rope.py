"""Rotary position embedding as config.json writes it, in both generations, to `Rope`.

Older files hold `rope_theta` beside `rope_scaling`; newer ones hold `rope_parameters` with `rope_theta`
inside, for Gemma 3 once per kind of layer. Formulas: transformers, `modeling_rope_utils.py`.
"""

from __future__ import annotations

import math

from edgellm.bundle.model_config import Rope, RopeScaling
from edgellm.checkpoint.families import Family
from edgellm.checkpoint.fields import Fields
from edgellm.errors import UnsupportedError

MAX_CONTEXT = 1 << 27
_ALIASES = {"su": "longrope", "mrope": "mrope (multimodal)"}


def read_rope(family: Family, config: Fields, head_dim: int) -> tuple[Rope, Rope | None]:
    """RoPE of full-attention layers, and that of sliding layers where the family has its own."""
    if family.name != "gemma3":
        old = config.child("rope_scaling")
        params = old if old.raw else config.child("rope_parameters")
        _refuse_nested(params)
        return _rope(family, config, params, "rope_theta", 10_000.0, head_dim), None
    new = config.child("rope_parameters")
    if new.raw and not {"full_attention", "sliding_attention"} & set(new.raw):
        raise UnsupportedError(
            f"{new.where.removesuffix('.')} has no full_attention and sliding_attention entries; "
            "Gemma 3 needs one for each kind of layer"
        )
    scaling = config.child("rope_scaling")
    full = Fields({**new.child("full_attention").raw, **scaling.raw}, {}, scaling.where)
    return (
        _rope(family, config, full, "rope_theta", 1_000_000.0, head_dim),
        _rope(family, config, new.child("sliding_attention"), "rope_local_base_freq", 10_000.0, head_dim),
    )


def _refuse_nested(params: Fields) -> None:
    if nested := sorted(key for key, value in params.raw.items() if isinstance(value, dict)):
        raise UnsupportedError(f"{params.where}{nested[0]}: RoPE per kind of layer is known for gemma3 only")
    if params.raw.get("mrope_section") is not None:
        raise UnsupportedError(
            f"{params.where}mrope_section: multimodal RoPE is not implemented; use a text model"
        )


def _rope(
    family: Family, config: Fields, params: Fields, theta_key: str, default_theta: float, head_dim: int
) -> Rope:
    outer = config.get(theta_key)
    params = Fields(params.raw, {"rope_theta": default_theta if outer is None else outer}, params.where)
    theta = params.number("rope_theta", 1.001, 1e15)
    fraction_of = params if params.get("partial_rotary_factor") is not None else config
    dim = head_dim
    if fraction_of.get("partial_rotary_factor") is not None:
        dim = int(head_dim * fraction_of.number("partial_rotary_factor", 0.01, 1.0))
    if dim != head_dim and family.name != "phi3":
        raise UnsupportedError(
            f"{fraction_of.where}partial_rotary_factor below 1 is known for phi3 only; "
            f"{family.name} rotates whole heads"
        )
    if dim < 2 or dim % 2:
        raise UnsupportedError(f"config.json: RoPE over {dim} entries of a head; an even number is needed")
    return Rope(theta=theta, dim=dim, scaling=_scaling(family, config, params, dim))


def _scaling(family: Family, config: Fields, params: Fields, dim: int) -> RopeScaling | None:
    key = "rope_type" if params.get("rope_type") is not None else "type"
    kind = params.text(key) if params.get(key) is not None else "default"
    kind = _ALIASES.get(kind, kind)
    if kind == "yarn" and family.name == "phi3":  # early Phi-3 files call longrope so
        kind = "longrope"
    if kind == "default":
        return None
    if kind not in family.rope_kinds:
        raise UnsupportedError(
            f"{params.where}{key} {kind!r} is not implemented for {family.name}; "
            f"implemented are default, {', '.join(family.rope_kinds)}"
        )
    if kind == "linear":
        return RopeScaling(kind="linear", factor=params.number("factor", 1.0, 1e6))
    original = _original_context(family, config, params)
    if kind == "llama3":
        return RopeScaling(
            kind="llama3",
            factor=params.number("factor", 1.0, 1e6),
            original_context=original,
            low_freq_factor=params.number("low_freq_factor", 1e-6, 1e6),
            high_freq_factor=params.number("high_freq_factor", 1e-6, 1e6),
        )
    context = config.integer("max_position_embeddings", 1, MAX_CONTEXT)
    factor = context / original
    if params.get("factor") is not None or kind == "yarn":
        factor = params.number("factor", 1.0, 1e6)
    attention = None
    if params.get("attention_factor") is not None:
        attention = params.number("attention_factor", 0.0, 1e3)
    if kind == "longrope":
        return RopeScaling(
            kind="longrope",
            factor=factor,
            original_context=original,
            attention_factor=attention if attention is not None else longrope_attention(factor, original),
            long_factor=params.numbers("long_factor", dim // 2, 1e-6, 1e6),
            short_factor=params.numbers("short_factor", dim // 2, 1e-6, 1e6),
        )
    optional = Fields(
        params.raw,
        {"beta_fast": 32.0, "beta_slow": 1.0, "mscale": 0.0, "mscale_all_dim": 0.0, "truncate": True},
        params.where,
    )
    mscale = optional.number("mscale", 0.0, 1e3)
    mscale_all_dim = optional.number("mscale_all_dim", 0.0, 1e3)
    return RopeScaling(
        kind="yarn",
        factor=factor,
        original_context=original,
        beta_fast=optional.number("beta_fast", 1e-6, 1e6) if optional.get("beta_fast") else 32.0,
        beta_slow=optional.number("beta_slow", 1e-6, 1e6) if optional.get("beta_slow") else 1.0,
        attention_factor=attention
        if attention is not None
        else yarn_attention(factor, mscale, mscale_all_dim),
        mscale=mscale,
        mscale_all_dim=mscale_all_dim,
        truncate=optional.boolean("truncate"),
    )


def _original_context(family: Family, config: Fields, params: Fields) -> int:
    """Positions before stretching. Phi-3 keeps the key outside the rope object, and that one counts there."""
    key = "original_max_position_embeddings"
    if family.name == "phi3" or params.get(key) is None:
        outer = Fields(
            config.raw, {key: config.get("max_position_embeddings"), **config.defaults}, config.where
        )
        return outer.integer(key, 2, MAX_CONTEXT)
    return params.integer(key, 2, MAX_CONTEXT)


def yarn_attention(factor: float, mscale: float = 0.0, mscale_all_dim: float = 0.0) -> float:
    """YaRN's factor on cosines and sines (Peng et al. 2023, https://arxiv.org/abs/2309.00071, 3.4)."""

    def scale(weight: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    return scale(mscale) / scale(mscale_all_dim) if mscale and mscale_all_dim else scale(1.0)


def longrope_attention(factor: float, original_context: int) -> float:
    """LongRoPE's factor on cosines and sines (Ding et al. 2024, https://arxiv.org/abs/2402.13753)."""
    return 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(original_context))

"""`ModelConfig`: what a checkpoint's `config.json` says, in one normal form for every family.

Families write the same facts under different keys and in two generations of transformers. Everything
after `edgellm.checkpoint` reads only this form; the manifest of a bundle carries it too.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Activation = Literal["silu", "gelu", "gelu_tanh"]


class RopeScaling(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """How rotary frequencies are stretched beyond the trained context (transformers' `modeling_rope_utils`).

    `kind` selects which of the other fields count:
    linear: factor. llama3: factor, low/high_freq_factor, original_context. yarn: factor, original_context,
    beta_fast/beta_slow, attention_factor. longrope: long_factor/short_factor (one per pair of a head's
    rotary dimensions), original_context, attention_factor.
    """

    kind: Literal["linear", "llama3", "yarn", "longrope"]
    factor: float = 1.0
    original_context: int = 0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    mscale: float = 0.0
    mscale_all_dim: float = 0.0
    truncate: bool = True
    long_factor: tuple[float, ...] = ()
    short_factor: tuple[float, ...] = ()


class Rope(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Rotary position embedding, rotate-half form, over the first `dim` entries of each head."""

    theta: float
    dim: int
    scaling: RopeScaling | None = None


class ModelConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A decoder-only transformer with RMSNorm, grouped-query attention, RoPE and a gated MLP."""

    family: str
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    context_length: int
    """Positions the checkpoint was made for (`max_position_embeddings`)."""
    norm_eps: float
    rope: Rope
    """RoPE of full-attention layers."""
    local_rope: Rope | None = None
    """RoPE of sliding-window layers, where it differs (Gemma 3)."""
    activation: Activation = "silu"
    tie_word_embeddings: bool = False
    qkv_bias: bool = False
    output_bias: bool = False
    """Bias on the attention's output projection (`attention_bias` of llama sets this and qkv_bias)."""
    mlp_bias: bool = False
    qk_norm: bool = False
    """RMSNorm over each query and key head (Qwen 3, Gemma 3)."""
    post_norms: bool = False
    """RMSNorm after attention and after the MLP too (Gemma 3)."""
    norm_adds_one: bool = False
    """RMSNorm multiplies by (1 + weight) (Gemma)."""
    embedding_scale: float = 1.0
    """Embeddings are multiplied by this before the first layer (sqrt(hidden_size) in Gemma)."""
    attention_scale: float | None = None
    """Factor of the attention scores; None = head_dim ** -0.5."""
    sliding_window: int | None = None
    """Tokens a sliding layer sees, itself included; None = every layer sees all."""
    sliding_layers: tuple[bool, ...] = ()
    """Which layers slide; empty = all if `sliding_window` is set, else none."""

    def slides(self, layer: int) -> bool:
        """Whether `layer` (0-based) attends through the sliding window."""
        if self.sliding_window is None:
            return False
        return self.sliding_layers[layer] if self.sliding_layers else True

    def kv_bytes_per_token(self, bytes_per_value: int) -> int:
        """Key/value cache bytes of one token over all layers (sliding windows not subtracted)."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim * bytes_per_value

"""`config.json` to `ModelConfig`: one normal form for every family and both generations of files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgellm.bundle.model_config import Activation, ModelConfig
from edgellm.checkpoint.families import Family, family_of
from edgellm.checkpoint.fields import Fields
from edgellm.checkpoint.rope import MAX_CONTEXT, read_rope
from edgellm.errors import CheckpointError, UnsupportedError

MAX_HIDDEN = 1 << 16
MAX_INTERMEDIATE = 1 << 20
MAX_LAYERS = 1024
MAX_HEADS = 1024
MAX_HEAD_DIM = 1024
MAX_VOCAB = 1 << 22

_ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
}

# Keys that change the computation and are not implemented, with what works instead.
# Each is harmless at null, and all but soft caps at false, 0 or 1.
_REFUSED = {
    "quantization_config": "give the unquantized (fp16, bf16 or fp32) checkpoint; edgellm quantizes at build",
    "compression_config": "give the unquantized (fp16, bf16 or fp32) checkpoint; edgellm quantizes at build",
    "attn_logit_softcapping": "soft-capped attention is not implemented; Gemma 3 works, which has none",
    "final_logit_softcapping": "soft-capped logits are not implemented; Gemma 3 works, which has none",
    "use_bidirectional_attention": "bidirectional attention is not implemented; use a causal language model",
    "is_encoder_decoder": "encoder-decoder models are not implemented; use a decoder-only model",
    "add_cross_attention": "cross-attention is not implemented; use a decoder-only model",
    "num_local_experts": "mixtures of experts are not implemented; use a dense model of the family",
    "num_experts": "mixtures of experts are not implemented; use a dense model of the family",
    "n_routed_experts": "mixtures of experts are not implemented; use a dense model of the family",
    "clip_qkv": "clipped projections are not implemented; use a checkpoint without them",
    "logit_scale": "scaled logits are not implemented; use a checkpoint without them",
    "logits_scaling": "scaled logits are not implemented; use a checkpoint without them",
    "residual_multiplier": "scaled residuals are not implemented; use a checkpoint without them",
    "embedding_multiplier": "scaled embeddings are not implemented; use a checkpoint without them",
    "attention_multiplier": "scaled attention is not implemented; use a checkpoint without it",
    "use_mrope": "multimodal RoPE is not implemented; use the text model of the family",
    "no_rope_layers": "layers without RoPE are not implemented; use a checkpoint without them",
}


def parse_config(raw: Mapping[str, Any]) -> ModelConfig:
    """`ModelConfig` from the object in config.json.

    Raises:
        CheckpointError: a key is missing, of the wrong type or absurd.
        UnsupportedError: the family or a feature is not implemented; names the key and what works.
    """
    family, config = read_family(raw)
    hidden = config.integer("hidden_size", 1, MAX_HIDDEN)
    layers = config.integer("num_hidden_layers", 1, MAX_LAYERS)
    heads = config.integer("num_attention_heads", 1, MAX_HEADS)
    kv_heads = heads
    if config.get("num_key_value_heads") is not None:
        kv_heads = config.integer("num_key_value_heads", 1, MAX_HEADS)
    if heads % kv_heads:
        raise CheckpointError(
            f"config.json: num_attention_heads {heads} is not a multiple of num_key_value_heads {kv_heads}"
        )
    if config.get("head_dim") is not None:
        head_dim = config.integer("head_dim", 2, MAX_HEAD_DIM)
    elif hidden % heads:
        raise CheckpointError(
            f"config.json: hidden_size {hidden} is not a multiple of num_attention_heads {heads}"
        )
    else:
        head_dim = hidden // heads
    rope, local_rope = read_rope(family, config, head_dim)
    window, sliding_layers = _sliding(family, config, layers)
    gemma = family.name == "gemma3"
    return ModelConfig(
        family=family.name,
        hidden_size=hidden,
        intermediate_size=config.integer("intermediate_size", 1, MAX_INTERMEDIATE),
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        vocab_size=config.integer("vocab_size", 1, MAX_VOCAB),
        context_length=config.integer("max_position_embeddings", 1, MAX_CONTEXT),
        norm_eps=config.number("rms_norm_eps", 0.0, 0.1),
        rope=rope,
        local_rope=local_rope,
        activation=_activation(family, config),
        tie_word_embeddings=_tied(raw, config),
        **_features(family, config),
        embedding_scale=hidden**0.5 if gemma else 1.0,
        attention_scale=config.number("query_pre_attn_scalar", 1e-3, 1e6) ** -0.5 if gemma else None,
        sliding_window=window,
        sliding_layers=sliding_layers,
    )


def read_family(raw: Mapping[str, Any]) -> tuple[Family, Fields]:
    """The family of a config.json and the fields of its text model; refuses what no family implements."""
    if raw.get("model_type") is None:
        raise CheckpointError("config.json: model_type is missing; it names the family, such as llama")
    family = family_of(Fields(raw, {}).text("model_type"))
    nested = family.name == "gemma3" and "text_config" in raw
    config = Fields(raw, {}).child("text_config") if nested else Fields(raw, {})
    config = Fields(config.raw, family.defaults, config.where)
    inner = config.get("model_type")
    if inner is not None and inner not in family.model_types:
        raise UnsupportedError(f"{config.where}model_type {inner!r} is not the text model of {family.name}")
    for level in [Fields(raw, {}), config] if nested else [config]:
        _refuse(level)
        _refuse_code(level, family)
    architectures = raw.get("architectures") or []
    if not isinstance(architectures, list) or not all(isinstance(name, str) for name in architectures):
        raise CheckpointError("config.json: architectures is not a list of names")
    if architectures and not set(architectures) & set(family.architectures):
        raise UnsupportedError(
            f"config.json: architectures {', '.join(architectures)} is no language model of {family.name}; "
            f"needed is {family.architectures[0]}"
        )
    return family, config


def _refuse(config: Fields) -> None:
    for key, reason in _REFUSED.items():
        value = config.raw.get(key)
        harmless = (None,) if key.endswith("softcapping") else (None, 0, 1)
        if value is True or value not in harmless:
            raise UnsupportedError(f"{config.where}{key} is set: {reason}")


def _refuse_code(config: Fields, family: Family) -> None:
    """Code of the checkpoint is never run. Phi-3 names some, though transformers has its class built in."""
    for auto_class, target in config.child("auto_map").raw.items():
        if not auto_class.startswith("AutoModelFor"):
            continue
        if not isinstance(target, str) or target.rsplit(".", 1)[-1] not in family.architectures:
            raise UnsupportedError(
                f"{config.where}auto_map names code of the checkpoint ({target}), which is never run; "
                f"readable are the models that need none, such as {family.examples[0]}"
            )


def _activation(family: Family, config: Fields) -> Activation:
    name = config.text(family.activation_key)
    if name not in _ACTIVATIONS:
        raise UnsupportedError(
            f"{config.where}{family.activation_key} {name!r} is not implemented; "
            f"implemented are {', '.join(_ACTIVATIONS)}"
        )
    return _ACTIVATIONS[name]


def _features(family: Family, config: Fields) -> dict[str, Any]:
    return {
        field: config.boolean(value) if isinstance(value, str) else value
        for field, value in family.features.items()
    }


def _tied(raw: Mapping[str, Any], config: Fields) -> bool:
    """A multimodal config.json says it outside its text_config."""
    outer = Fields(raw, {})
    return (outer if raw.get("tie_word_embeddings") is not None else config).boolean("tie_word_embeddings")


def _sliding(family: Family, config: Fields, layers: int) -> tuple[int | None, tuple[bool, ...]]:
    """The window, and which layers slide (empty: all of them)."""
    if family.sliding == "none" or ("sliding_window" in config.raw and config.raw["sliding_window"] is None):
        return None, ()  # a null window means none: it does not fall back to the default
    if config.get("sliding_window") is None:
        return None, ()
    if "use_sliding_window" in family.defaults and not config.boolean("use_sliding_window"):
        return None, ()
    window = config.integer("sliding_window", 1, MAX_CONTEXT)
    slides = _sliding_layers(family, config, layers)
    return (window, () if all(slides) else slides) if any(slides) else (None, ())


def _sliding_layers(family: Family, config: Fields, layers: int) -> tuple[bool, ...]:
    kinds = config.get("layer_types")
    if family.sliding == "all":
        if kinds is not None and not all(_layer_types(config, kinds, layers)):
            raise UnsupportedError(
                f"{config.where}layer_types: {family.name} slides in all layers or none; "
                "set sliding_window to null"
            )
        return (True,) * layers
    if kinds is not None:
        return _layer_types(config, kinds, layers)
    if "max_window_layers" in family.defaults:
        first = config.integer("max_window_layers", 0, MAX_CONTEXT)
        return tuple(layer >= first for layer in range(layers))
    pattern = config.integer("sliding_window_pattern", 1, MAX_CONTEXT)
    return tuple((layer + 1) % pattern != 0 for layer in range(layers))


def _layer_types(config: Fields, kinds: object, layers: int) -> tuple[bool, ...]:
    if not isinstance(kinds, list) or len(kinds) != layers:
        raise CheckpointError(
            f"{config.where}layer_types is not a list of {layers} names, one for each layer"
        )
    for kind in kinds:
        if kind not in ("full_attention", "sliding_attention"):
            raise UnsupportedError(
                f"{config.where}layer_types holds {kind!r}; "
                "implemented are full_attention and sliding_attention"
            )
    return tuple(kind == "sliding_attention" for kind in kinds)

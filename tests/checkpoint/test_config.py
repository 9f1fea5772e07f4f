"""config.json to ModelConfig: both generations, defaults, refusals, absurd values."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from edgellm.bundle.model_config import ModelConfig
from edgellm.checkpoint.config import parse_config
from edgellm.checkpoint.families import families
from edgellm.errors import CheckpointError, UnsupportedError
from tests.make_checkpoints import FAMILIES, make_checkpoint

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
LONG = {"type": "longrope", "long_factor": [2.0] * 8, "short_factor": [1.0] * 8}
PHI3_LONG = {"max_position_embeddings": 512, "original_max_position_embeddings": 128}


def raw(directory: Path, family: str = "llama", **options: Any) -> dict[str, Any]:
    make_checkpoint(directory, family, **options)
    result: dict[str, Any] = json.loads((directory / "config.json").read_text())
    return result


def parsed(directory: Path, family: str = "llama", **options: Any) -> ModelConfig:
    return parse_config(raw(directory, family, **options))


BOTH = [
    *((family, {}) for family in FAMILIES),
    ("llama", {"rope_scaling": LLAMA3, "rope_theta": 5e5}),
    ("llama", {"rope_scaling": {"type": "linear", "factor": 2.0}, "attention_bias": True, "mlp_bias": True}),
    ("mistral", {"sliding_window": 32}),
    ("qwen2", {"rope_scaling": YARN}),
    ("qwen2", {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1}),
    ("gemma3", {"rope_scaling": {"rope_type": "linear", "factor": 8.0}}),
    ("phi3", {"rope_scaling": LONG, **PHI3_LONG}),
    ("phi3", {"partial_rotary_factor": 0.75}),
]


@pytest.mark.parametrize(("family", "options"), BOTH)
def test_both_generations_say_the_same(family: str, options: dict[str, Any], tmp_path: Path) -> None:
    old = parsed(tmp_path / "old", family, generation=4, **options)
    new = parsed(tmp_path / "new", family, generation=5, **options)
    assert old == new
    assert old.family == family


@pytest.mark.parametrize("generation", [4, 5])
def test_the_text_model_of_a_multimodal_checkpoint(generation: Any, tmp_path: Path) -> None:
    alone = parsed(tmp_path / "alone", "gemma3", generation=generation)
    inside = parsed(tmp_path / "inside", "gemma3", generation=generation, multimodal=True)
    assert alone == inside


def test_gemma3_with_only_the_keys_that_the_hub_has() -> None:
    text = {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    }
    config = parse_config({"model_type": "gemma3", "text_config": text, "vision_config": {}})
    assert (config.num_heads, config.num_kv_heads, config.head_dim, config.vocab_size) == (8, 4, 256, 262_208)
    assert config.rope.theta == 1e6 and config.rope.scaling is not None and config.rope.scaling.factor == 8
    assert config.local_rope is not None
    assert (config.local_rope.theta, config.local_rope.scaling) == (1e4, None)
    assert [i for i in range(34) if not config.slides(i)] == [5, 11, 17, 23, 29]
    assert config.activation == "gelu_tanh" and config.tie_word_embeddings and config.norm_adds_one
    assert config.embedding_scale == math.sqrt(2560) and config.attention_scale == 1 / 16


def test_keys_at_their_harmless_values_are_no_reason_to_refuse(tmp_path: Path) -> None:
    harmless = {
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
        "use_mrope": False,
        "num_experts": 0,
        "logit_scale": 1.0,
        "quantization_config": None,
        "text_config": {"hidden_size": 3},
    }
    assert parse_config(raw(tmp_path) | harmless) == parse_config(raw(tmp_path))


def test_what_each_family_adds(tmp_path: Path) -> None:
    config = {family: parsed(tmp_path / family, family) for family in FAMILIES}
    assert [f for f in FAMILIES if config[f].qkv_bias] == ["qwen2"]
    assert [f for f in FAMILIES if config[f].qk_norm] == ["qwen3", "gemma3"]
    assert [f for f in FAMILIES if config[f].post_norms] == ["gemma3"]
    assert [f for f in FAMILIES if config[f].tie_word_embeddings] == ["qwen2", "gemma3"]
    assert config["qwen3"].head_dim == 32 and config["llama"].head_dim == 16
    assert config["llama"].norm_eps == 1e-5


def test_biases_follow_their_keys(tmp_path: Path) -> None:
    llama = parsed(tmp_path / "a", attention_bias=True)
    assert llama.qkv_bias and llama.output_bias and not llama.mlp_bias
    qwen3 = parsed(tmp_path / "b", "qwen3", attention_bias=True)
    assert qwen3.qkv_bias and qwen3.output_bias


@pytest.mark.parametrize(
    ("family", "options", "window", "layers"),
    [
        ("llama", {"sliding_window": 8}, None, ()),
        ("mistral", {"sliding_window": 8}, 8, ()),
        ("mistral", {"sliding_window": None}, None, ()),
        ("phi3", {"sliding_window": 8}, 8, ()),
        ("qwen2", {"use_sliding_window": False, "sliding_window": 8}, None, ()),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 8}, None, ()),  # max_window_layers 28
        ("qwen2", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0}, 8, ()),
        (
            "qwen3",
            {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 2},
            8,
            (False, False, True),
        ),
        ("gemma3", {"sliding_window_pattern": 2}, 16, (True, False, True, False)),
    ],
)
def test_sliding_windows(
    family: str, options: dict[str, Any], window: int | None, layers: tuple[bool, ...], tmp_path: Path
) -> None:
    config = parsed(tmp_path, family, **options)
    assert (config.sliding_window, config.sliding_layers) == (window, layers)


def test_an_absent_window_of_mistral_is_its_default(tmp_path: Path) -> None:
    config = raw(tmp_path, "mistral")
    del config["sliding_window"]
    assert parse_config(config).sliding_window == 4096


def test_rope_scaling_is_read_whole(tmp_path: Path) -> None:
    llama3 = parsed(tmp_path / "a", rope_scaling=LLAMA3).rope.scaling
    assert llama3 is not None
    assert (llama3.kind, llama3.factor, llama3.original_context) == ("llama3", 8.0, 64)
    yarn = parsed(tmp_path / "b", "qwen2", rope_scaling=YARN).rope.scaling
    assert yarn is not None and yarn.attention_factor == pytest.approx(0.1 * math.log(4) + 1)
    assert (yarn.beta_fast, yarn.beta_slow, yarn.truncate) == (32.0, 1.0, True)
    for kind in ("longrope", "su", "yarn"):
        long = parsed(tmp_path / kind, "phi3", rope_scaling=LONG | {"type": kind}, **PHI3_LONG).rope.scaling
        assert long is not None and long.kind == "longrope" and long.factor == 4.0
        assert long.original_context == 128 and long.long_factor == (2.0,) * 8
        assert long.attention_factor == pytest.approx(math.sqrt(1 + math.log(4) / math.log(128)))


def test_partial_rotation_of_phi3(tmp_path: Path) -> None:
    assert parsed(tmp_path, "phi3", partial_rotary_factor=0.75).rope.dim == 12


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("llama", {"hidden_act": "relu"}, "hidden_act 'relu' is not implemented; implemented are silu"),
    ("llama", {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_scaling.type 'dynamic'"),
    ("phi3", {"rope_scaling": {"type": "linear", "factor": 2.0}}, "not implemented for phi3"),
    ("qwen2", {"rope_scaling": {"type": "mrope", "mrope_section": [1, 2]}}, "mrope_section"),
    ("llama", {"rope_scaling": {"full_attention": {"rope_type": "default"}}}, "known for gemma3 only"),
    ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor below 1 is known for phi3 only"),
    ("gemma3", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping is set"),
    ("gemma3", {"attn_logit_softcapping": 1.0}, "attn_logit_softcapping is set"),
    ("gemma3", {"final_logit_softcapping": 30.0}, "final_logit_softcapping is set"),
    ("gemma3", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
    ("llama", {"quantization_config": {"quant_method": "gptq", "bits": 4}}, "unquantized"),
    ("mistral", {"num_local_experts": 8}, "mixtures of experts"),
    ("llama", {"architectures": ["LlamaForSequenceClassification"]}, "no language model"),
    ("llama", {"auto_map": {"AutoModelForCausalLM": "modeling_x.XForCausalLM"}}, "never run"),
    ("mistral", {"sliding_window": 8, "layer_types": ["full_attention"] * 3}, "layer_types"),
    ("qwen2", {"layer_types": ["chunked_attention"] * 3, "use_sliding_window": True}, "chunked_attention"),
    ("llama", {"model_type": "mixtral"}, "the nearest is 'mistral'"),
    ("llama", {"model_type": "gemma2"}, "the nearest is 'gemma3'"),
    ("llama", {"model_type": "zzz"}, "readable are gemma3, gemma3_text, llama"),
]


@pytest.mark.parametrize(("family", "options", "message"), REFUSED)
def test_what_is_not_implemented_is_refused_by_name(
    family: str, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    config = raw(tmp_path, family) | options
    with pytest.raises(UnsupportedError) as caught:
        parse_config(config)
    text = str(caught.value)
    assert message in text and text.startswith("config.json: ") and "\n" not in text


def test_phi3_names_code_that_is_not_needed(tmp_path: Path) -> None:
    names = {
        "AutoConfig": "configuration_phi3.Phi3Config",
        "AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM",
    }
    assert parsed(tmp_path, "phi3", auto_map=names).family == "phi3"


ABSURD: list[tuple[str, Any]] = [
    ("hidden_size", 10**9),
    ("hidden_size", 0),
    ("hidden_size", -64),
    ("hidden_size", 64.0),
    ("hidden_size", "64"),
    ("hidden_size", True),
    ("hidden_size", 65),
    ("hidden_size", [64]),
    ("num_hidden_layers", 10**6),
    ("num_attention_heads", 3),
    ("num_attention_heads", 10**4),
    ("num_key_value_heads", 3),
    ("vocab_size", 10**10),
    ("vocab_size", 10**5000),
    ("intermediate_size", 2**40),
    ("max_position_embeddings", 2**60),
    ("head_dim", 10**6),
    ("head_dim", 15),
    ("rms_norm_eps", 3.0),
    ("rms_norm_eps", -1),
    ("rope_theta", 0.0),
    ("rope_theta", "many"),
    ("rope_scaling", 7),
    ("rope_scaling", {"type": "linear"}),
    ("rope_scaling", {"type": "linear", "factor": 0.0}),
    ("rope_scaling", {"type": 3}),
    ("rope_scaling", {"rope_type": "longrope", "long_factor": [1.0], "short_factor": [1.0]}),
    ("tie_word_embeddings", "yes"),
    ("attention_bias", 1),
    ("architectures", "LlamaForCausalLM"),
    ("model_type", 3),
    ("model_type", None),
]


@pytest.mark.parametrize(("key", "value"), ABSURD, ids=[str(i) for i in range(len(ABSURD))])
def test_absurd_values_are_refused_by_key(key: str, value: Any, tmp_path: Path) -> None:
    config = raw(tmp_path) | {key: value}
    with pytest.raises((CheckpointError, UnsupportedError)) as caught:
        parse_config(config)
    assert str(caught.value).startswith("config.json: ") and len(str(caught.value)) < 300


def test_families_are_described() -> None:
    assert list(families()) == sorted(FAMILIES)
    for family in families().values():
        assert family.description and family.examples and family.architectures
        stored = {*family.tensors.layer, *(m for parts in family.tensors.fused.values() for m in parts)}
        assert {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"} <= stored


def test_defaults_are_enough_for_every_family() -> None:
    for family in families().values():
        config = parse_config({"model_type": family.model_types[0]})
        assert config.vocab_size == family.defaults["vocab_size"]

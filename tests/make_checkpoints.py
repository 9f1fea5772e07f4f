"""Small checkpoints with random weights, of every family and in both generations of files, from numpy alone.

    make_checkpoint(directory, "qwen2", seed=1, generation=5, dtype="BF16", shards=3)

Same arguments, same bytes. Weights are scaled so that logits differ clearly from token to token.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tests.make_tokenizers import CHAT_TEMPLATE, byte_level, metaspace

Dtype = Literal["F32", "F16", "BF16"]
FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma3", "phi3")

_SIZES: dict[str, Any] = {
    "vocab_size": 384,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
}
_FAMILY: dict[str, dict[str, Any]] = {
    "llama": {"architectures": ["LlamaForCausalLM"]},
    "mistral": {"architectures": ["MistralForCausalLM"], "sliding_window": None, "head_dim": 16},
    "qwen2": {"architectures": ["Qwen2ForCausalLM"], "tie_word_embeddings": True, "rope_theta": 1e6},
    "qwen3": {"architectures": ["Qwen3ForCausalLM"], "head_dim": 32, "rope_theta": 1e6},
    "gemma3": {
        "architectures": ["Gemma3ForCausalLM"],
        "num_hidden_layers": 4,
        "head_dim": 32,
        "query_pre_attn_scalar": 24,
        "sliding_window": 16,
        "sliding_window_pattern": 3,
        "hidden_activation": "gelu_pytorch_tanh",
        "rope_theta": 1e6,
        "rope_local_base_freq": 1e4,
        "tie_word_embeddings": True,
    },
    "phi3": {"architectures": ["Phi3ForCausalLM"], "original_max_position_embeddings": 256},
}
_MODEL_TYPE = {"gemma3": "gemma3_text"}


def make_checkpoint(
    directory: Path,
    family: str = "llama",
    *,
    seed: int = 0,
    generation: Literal[4, 5] = 4,
    dtype: Dtype = "F32",
    shards: int = 1,
    multimodal: bool = False,
    chat: bool = True,
    **overrides: Any,
) -> Path:
    """Write a whole checkpoint into `directory` (made if needed) and return it.

    Args:
        family: one of FAMILIES. generation: the transformers generation whose files to imitate.
        dtype: how weights are stored. shards: 1 = model.safetensors, more = an index.
        multimodal: Gemma 3 as it lies inside the multimodal checkpoint.
        chat: write a chat template.
        overrides: config.json keys to set, in the older spelling (rope_theta, rope_scaling); None: null.
    """
    directory.mkdir(parents=True, exist_ok=True)
    old = {"model_type": _MODEL_TYPE.get(family, family), **_SIZES, **_FAMILY[family], **overrides}
    old |= {"bos_token_id": 1, "eos_token_id": 2, "use_cache": True, "initializer_range": 0.02}
    old.setdefault("pad_token_id", 0)
    config = _generation_5(old) if generation == 5 else dict(old)
    config["dtype" if generation == 5 else "torch_dtype"] = {"F32": "float32", "F16": "float16"}.get(
        dtype, "bfloat16"
    )
    config["transformers_version"] = "5.0.0" if generation == 5 else "4.46.0"
    tensors = {name: _round(value, dtype) for name, value in random_tensors(family, old, seed).items()}
    if multimodal:
        config, tensors = _multimodal(config, tensors, generation)
    _write_json(directory / "config.json", config)
    _write_json(directory / "generation_config.json", {"bos_token_id": 1, "eos_token_id": [2, 3]})
    write_tensors(directory, tensors, dtype, shards)
    spm = family in ("gemma3", "phi3", "mistral")
    (metaspace if spm else byte_level)().save(str(directory / "tokenizer.json"))
    tokenizer_config = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer_config["tokenizer_class"] = (
        "TokenizersBackend" if generation == 5 else "PreTrainedTokenizerFast"
    )
    if chat and generation == 5:
        (directory / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    elif chat:
        tokenizer_config["chat_template"] = CHAT_TEMPLATE
    _write_json(directory / "tokenizer_config.json", tokenizer_config)
    return directory


def random_tensors(family: str, config: dict[str, Any], seed: int) -> dict[str, NDArray[np.float32]]:
    """Every tensor that transformers expects for `config`, by its stored name, float32."""
    rng = np.random.default_rng(seed)
    hidden, inter = config["hidden_size"], config["intermediate_size"]
    heads, kv = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim = config.get("head_dim") or hidden // heads

    def matrix(rows: int, columns: int) -> NDArray[np.float32]:
        return rng.standard_normal((rows, columns), dtype=np.float32) * np.float32(1.5 / np.sqrt(columns))

    def bias(size: int) -> NDArray[np.float32]:
        return rng.standard_normal(size, dtype=np.float32) * np.float32(0.2)

    def norm(size: int) -> NDArray[np.float32]:
        center = 0.0 if family == "gemma3" else 1.0
        return np.float32(center) + rng.standard_normal(size, dtype=np.float32) * np.float32(0.1)

    def linear(name: str, rows: int, columns: int, biased: bool = False) -> dict[str, NDArray[np.float32]]:
        tensors = {f"{name}.weight": matrix(rows, columns)}
        return tensors | ({f"{name}.bias": bias(rows)} if biased else {})

    attention_bias = bool(config.get("attention_bias"))
    qkv_bias = family == "qwen2" or attention_bias
    mlp_bias = bool(config.get("mlp_bias"))
    embed = rng.standard_normal((config["vocab_size"], hidden), dtype=np.float32)
    scale = np.sqrt(hidden) if family == "gemma3" or config.get("tie_word_embeddings") else 1.0
    result = {"model.embed_tokens.weight": embed / np.float32(scale)}
    for i in range(config["num_hidden_layers"]):
        layer: dict[str, NDArray[np.float32]] = {"input_layernorm.weight": norm(hidden)}
        if family == "phi3":
            layer |= linear("self_attn.qkv_proj", (heads + 2 * kv) * head_dim, hidden)
            layer |= linear("mlp.gate_up_proj", 2 * inter, hidden)
        else:
            layer |= linear("self_attn.q_proj", heads * head_dim, hidden, qkv_bias)
            layer |= linear("self_attn.k_proj", kv * head_dim, hidden, qkv_bias)
            layer |= linear("self_attn.v_proj", kv * head_dim, hidden, qkv_bias)
            layer |= linear("mlp.gate_proj", inter, hidden, mlp_bias)
            layer |= linear("mlp.up_proj", inter, hidden, mlp_bias)
        layer |= linear("self_attn.o_proj", hidden, heads * head_dim, attention_bias)
        layer |= linear("mlp.down_proj", hidden, inter, mlp_bias)
        if family in ("qwen3", "gemma3"):
            layer |= {"self_attn.q_norm.weight": norm(head_dim), "self_attn.k_norm.weight": norm(head_dim)}
        layer["post_attention_layernorm.weight"] = norm(hidden)
        if family == "gemma3":
            layer["pre_feedforward_layernorm.weight"] = norm(hidden)
            layer["post_feedforward_layernorm.weight"] = norm(hidden)
        result |= {f"model.layers.{i}.{name}": value for name, value in layer.items()}
    result["model.norm.weight"] = norm(hidden)
    if not config.get("tie_word_embeddings"):
        result["lm_head.weight"] = matrix(config["vocab_size"], hidden)
    return result


def write_tensors(directory: Path, tensors: dict[str, NDArray[Any]], dtype: Dtype, shards: int = 1) -> None:
    """Write float32 `tensors` as `dtype` into model.safetensors, or into shards with an index."""
    if shards == 1:
        write_safetensors(directory / "model.safetensors", tensors, dtype)
        return
    names = list(tensors)
    parts = [names[i::shards] for i in range(shards)]
    weight_map = {}
    for i, part in enumerate(parts):
        file = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        write_safetensors(directory / file, {name: tensors[name] for name in part}, dtype)
        weight_map |= dict.fromkeys(part, file)
    total = sum(tensor.size for tensor in tensors.values()) * (4 if dtype == "F32" else 2)
    _write_json(
        directory / "model.safetensors.index.json",
        {"metadata": {"total_size": total}, "weight_map": weight_map},
    )


def write_safetensors(path: Path, tensors: dict[str, NDArray[Any]], dtype: Dtype = "F32") -> None:
    """Write one safetensors file. Format: https://github.com/huggingface/safetensors#format"""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    blobs: list[bytes] = []
    offset = 0
    for name, tensor in tensors.items():
        blob = _encode(tensor, dtype)
        header[name] = {
            "dtype": dtype,
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + len(blob)],
        }
        blobs.append(blob)
        offset += len(blob)
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    path.write_bytes(len(head).to_bytes(8, "little") + head + b"".join(blobs))


def stored_shapes(directory: Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor in a checkpoint's safetensors files."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in sorted(directory.glob("*.safetensors")):
        data = path.read_bytes()
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        shapes |= {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
    return shapes


def _encode(tensor: NDArray[Any], dtype: Dtype) -> bytes:
    if dtype == "BF16":
        return (tensor.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    return tensor.astype("<f4" if dtype == "F32" else "<f2").tobytes()


def _round(tensor: NDArray[np.float32], dtype: Dtype) -> NDArray[np.float32]:
    """To the nearest value that `dtype` can store, so that what is read equals what was written."""
    if dtype == "F16":
        return tensor.astype(np.float16).astype(np.float32)
    if dtype == "BF16":
        bits = tensor.view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)
    return tensor


def _generation_5(old: dict[str, Any]) -> dict[str, Any]:
    """The newer spelling: `rope_parameters` for rope_theta and rope_scaling, `layer_types` for Gemma 3."""
    config = dict(old)
    theta = config.pop("rope_theta", 1e4)
    scaling = config.pop("rope_scaling", None) or {"rope_type": "default"}
    scaling = {("rope_type" if key == "type" else key): value for key, value in scaling.items()}
    rope = {"rope_theta": theta, **scaling}
    if "partial_rotary_factor" in config:
        rope["partial_rotary_factor"] = config.pop("partial_rotary_factor")
    if config["model_type"] != "gemma3_text":
        return config | {"rope_parameters": rope}
    local = {"rope_type": "default", "rope_theta": config.pop("rope_local_base_freq", 1e4)}
    pattern = config.pop("sliding_window_pattern", 6)
    kinds = [
        "sliding_attention" if (i + 1) % pattern else "full_attention"
        for i in range(config["num_hidden_layers"])
    ]
    return config | {
        "rope_parameters": {"full_attention": rope, "sliding_attention": local},
        "layer_types": kinds,
    }


def _multimodal(
    text: dict[str, Any], tensors: dict[str, NDArray[np.float32]], generation: int
) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
    tied = text.pop("tie_word_embeddings", True)
    config = {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "model_type": "gemma3",
        "text_config": {key: value for key, value in text.items() if key != "architectures"},
        "vision_config": {"hidden_size": 32, "model_type": "siglip_vision_model"},
        "tie_word_embeddings": tied,
        "eos_token_id": [2, 4],
    }
    before, vision = (
        ("model.language_model.", "model.vision_tower.")
        if generation == 5
        else ("language_model.model.", "vision_tower.")
    )
    renamed = {name.replace("model.", before, 1): value for name, value in tensors.items()}
    return config, renamed | {f"{vision}embeddings.weight": np.ones((4, 4), np.float32)}


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")

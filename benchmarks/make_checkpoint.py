#!/usr/bin/env python3
"""Write a Llama checkpoint of a realistic shape with random weights, for measuring speed and memory.

    python benchmarks/make_checkpoint.py OUT_DIR --shape llama-1b

Random weights say nothing about quality. Tensors are written one at a time, so memory stays small.
"""

from __future__ import annotations

import argparse
import json
import struct
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers


@dataclass(frozen=True)
class Shape:
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    vocab: int


SHAPES = {
    "tiny": Shape(256, 704, 4, 8, 4, 2000),
    "llama-0.3b": Shape(1024, 2816, 16, 16, 4, 32000),
    "llama-1b": Shape(2048, 5632, 22, 32, 4, 32000),
    "llama-8b": Shape(4096, 14336, 32, 32, 8, 128256),
}
CHAT_TEMPLATE = """\
{%- for message in messages -%}
<s>{{ message.role }}: {{ message.content }}</s>
{% endfor -%}
{%- if add_generation_prompt %}<s>assistant:{% endif -%}
"""


def tensors(shape: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes as Hugging Face's llama has them."""
    head_dim = shape.hidden // shape.heads
    yield "model.embed_tokens.weight", (shape.vocab, shape.hidden)
    for i in range(shape.layers):
        at = f"model.layers.{i}."
        yield at + "input_layernorm.weight", (shape.hidden,)
        yield at + "self_attn.q_proj.weight", (shape.heads * head_dim, shape.hidden)
        yield at + "self_attn.k_proj.weight", (shape.kv_heads * head_dim, shape.hidden)
        yield at + "self_attn.v_proj.weight", (shape.kv_heads * head_dim, shape.hidden)
        yield at + "self_attn.o_proj.weight", (shape.hidden, shape.heads * head_dim)
        yield at + "post_attention_layernorm.weight", (shape.hidden,)
        yield at + "mlp.gate_proj.weight", (shape.intermediate, shape.hidden)
        yield at + "mlp.up_proj.weight", (shape.intermediate, shape.hidden)
        yield at + "mlp.down_proj.weight", (shape.hidden, shape.intermediate)
    yield "model.norm.weight", (shape.hidden,)
    yield "lm_head.weight", (shape.vocab, shape.hidden)


def write_weights(path: Path, shape: Shape, seed: int) -> None:
    """model.safetensors in float16: header length, JSON header, then the tensors one after another."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, size in tensors(shape):
        end = offset + 2 * int(np.prod(size))
        header[name] = {"dtype": "F16", "shape": size, "data_offsets": [offset, end]}
        offset = end
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    rng = np.random.default_rng(seed)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        for _, size in tensors(shape):
            if len(size) == 1:
                values = np.ones(size, np.float16)
            else:
                values = (rng.standard_normal(size, dtype=np.float32) * 0.02).astype(np.float16)
            file.write(values.tobytes())


def train_tokenizer(vocab_size: int) -> Tokenizer:
    """Byte-level BPE over the sources of Python's standard library, which every machine here has."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    sources = sorted(str(path) for path in Path(sysconfig.get_path("stdlib")).rglob("*.py"))[:500]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<unk>", "<s>", "</s>"],
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train(sources, trainer)
    return tokenizer


def config(shape: Shape) -> dict[str, object]:
    """What `config.json` says."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": "float16",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "vocab_size": shape.vocab,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def make(out: Path, shape: Shape, seed: int = 0) -> None:
    """Write the whole checkpoint into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    write_weights(out / "model.safetensors", shape, seed)
    (out / "config.json").write_text(json.dumps(config(shape), indent=2))
    (out / "generation_config.json").write_text(json.dumps({"bos_token_id": 1, "eos_token_id": 2}))
    train_tokenizer(shape.vocab).save(str(out / "tokenizer.json"))
    tokens = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    settings = {**tokens, "chat_template": CHAT_TEMPLATE, "tokenizer_class": "PreTrainedTokenizerFast"}
    (out / "tokenizer_config.json").write_text(json.dumps(settings, indent=2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    make(args.out, SHAPES[args.shape], args.seed)


if __name__ == "__main__":
    main()

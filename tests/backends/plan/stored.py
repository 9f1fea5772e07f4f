"""What the weights of a GPU bundle stand for, read without the code that wrote them.

Follows docs/plan.md ("Weights") and the layout that `edgellm.quantize.gpu_layout` describes, and gives a
Llama's tensors their Hugging Face names, so that a reference in numpy can compute with the very numbers that
kernels see.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
GROUP = 32


def llama_weights(folder: Path, config: dict[str, Any]) -> dict[str, Floats]:
    """float32 tensors by Hugging Face name, of the programs' folder `folder` with int4 or int8 weights.

    Args:
        config: of the checkpoint, a Llama without biases whose output matrix is its embedding.
    """
    found = _buffers(folder)
    hidden, inner, vocab = (config[k] for k in ("hidden_size", "intermediate_size", "vocab_size"))
    queries, keys = (config["head_dim"] * config[k] for k in ("num_attention_heads", "num_key_value_heads"))

    def matrix(name: str, rows: int, columns: int) -> Floats:
        return dequantized(found.pop(f"{name}.w"), found.pop(f"{name}.s"), columns)[:rows]

    weights = {
        "model.embed_tokens.weight": matrix("embed", vocab, hidden),
        "model.norm.weight": found.pop("norm").view(np.float32),
    }
    for i in range(config["num_hidden_layers"]):
        at, to = f"layers.{i}.", f"model.layers.{i}."
        qkv = np.split(matrix(f"{at}qkv", queries + 2 * keys, hidden), [queries, queries + keys])
        weights |= {f"{to}self_attn.{one}_proj.weight": part for one, part in zip("qkv", qkv, strict=True)}
        weights[f"{to}self_attn.o_proj.weight"] = matrix(f"{at}o", hidden, queries)
        # Rows of the two take turns, so that one thread finds both.
        pairs = matrix(f"{at}gate_up", 2 * inner, hidden)
        weights[f"{to}mlp.gate_proj.weight"], weights[f"{to}mlp.up_proj.weight"] = pairs[0::2], pairs[1::2]
        weights[f"{to}mlp.down_proj.weight"] = matrix(f"{at}down", hidden, inner)
        weights[f"{to}input_layernorm.weight"] = found.pop(f"{at}input_norm").view(np.float32)
        weights[f"{to}post_attention_layernorm.weight"] = found.pop(f"{at}pre_mlp_norm").view(np.float32)
    assert not found, f"the bundle has more than a Llama takes: {list(found)}"
    return weights


def dequantized(codes: NDArray[np.uint8], scales: NDArray[np.uint8], columns: int) -> Floats:
    """float32[outputs, columns] of a buffer of 4- or 8-bit codes and its buffer of fp16 scales.

    Args:
        codes: words uint32[pieces of the inputs, outputs, 4], the lowest bits first.
        scales: float16[groups of 32 inputs, outputs].
    """
    per_group = scales.view(np.float16).reshape(columns // GROUP, -1).astype(np.float32)
    outputs = per_group.shape[1]
    bits = 8 * len(codes) // (outputs * columns)
    words = codes.view(np.uint32).reshape(-1, outputs, 4, 1)
    unsigned = words >> np.arange(0, 32, bits, dtype=np.uint32) & np.uint32(2**bits - 1)
    values = unsigned.astype(np.float32) - np.float32(2 ** (bits - 1))
    rows = values.transpose(1, 0, 2, 3).reshape(outputs, columns // GROUP, GROUP)
    return (rows * per_group.T[:, :, None]).reshape(outputs, columns)


def _buffers(folder: Path) -> dict[str, NDArray[np.uint8]]:
    """Every buffer of the shards, by name."""
    found = {}
    for entry in json.loads((folder / "weights.json").read_text()):
        shard = np.fromfile(folder / f"weights-{entry['shard']:03}.bin", np.uint8)
        found[entry["name"]] = shard[entry["offset"] :][: entry["bytes"]]
    return found

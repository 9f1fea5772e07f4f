"""A plain numpy Llama in float32, written apart from every backend so that they can be checked against it.

It reads the checkpoint with safetensors and computes one sequence at a time. The formulas are those of
Hugging Face's `modeling_llama`: RMS norm, rotate-half rotary embedding, grouped-query attention, SwiGLU.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

Array = NDArray[np.float32]


class Reference:
    """The model of one checkpoint folder: `config` as read, `weights` in float32 by Hugging Face name."""

    def __init__(self, model_dir: str | Path) -> None:
        folder = Path(model_dir)
        self.config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        with safe_open(folder / "model.safetensors", framework="numpy") as tensors:
            self.weights = {name: tensors.get_tensor(name).astype(np.float32) for name in tensors.keys()}  # noqa: SIM118
        self.heads: int = self.config["num_attention_heads"]
        self.kv_heads: int = self.config.get("num_key_value_heads") or self.heads
        self.head_dim: int = self.config.get("head_dim") or self.config["hidden_size"] // self.heads
        half = self.head_dim // 2
        self.frequencies = self.config.get("rope_theta", 10000.0) ** (-np.arange(half) / half)

    def logits(self, token_ids: Sequence[int]) -> Array:
        """Logits float32[n, vocab]: row i scores the token that follows `token_ids[: i + 1]`."""
        return self.forward(token_ids, self.new_cache())

    def greedy(self, prompt_ids: Sequence[int], max_tokens: int, stop_ids: Collection[int]) -> list[int]:
        """The likeliest continuation, without the stop token that ends it, at most `max_tokens` long."""
        cache, out = self.new_cache(), list[int]()
        step = list(prompt_ids)
        while len(out) < max_tokens:
            token = int(self.forward(step, cache)[-1].argmax())
            if token in stop_ids:
                break
            out.append(token)
            step = [token]
        return out

    def new_cache(self) -> list[tuple[Array, Array]]:
        """An empty key/value cache: for each layer keys and values, float32[kv_heads, tokens, head_dim]."""
        empty = np.zeros((self.kv_heads, 0, self.head_dim), np.float32)
        return [(empty, empty) for _ in range(self.config["num_hidden_layers"])]

    def forward(self, token_ids: Sequence[int], cache: list[tuple[Array, Array]]) -> Array:
        """Logits float32[n, vocab] of `token_ids`, which continue those in `cache`; extends the cache."""
        embedding = self.weights["model.embed_tokens.weight"]
        x: Array = embedding[list(token_ids)]
        past = cache[0][0].shape[1]
        angles = np.outer(np.arange(past, past + len(token_ids)), self.frequencies)
        cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
        for i in range(len(cache)):
            prefix = f"model.layers.{i}."
            x = x + self._attention(prefix, self._norm(prefix + "input_layernorm", x), cos, sin, cache, i)
            y = self._norm(prefix + "post_attention_layernorm", x)
            gate = self._linear(prefix + "mlp.gate_proj", y)
            inner = gate / (1 + np.exp(-gate)) * self._linear(prefix + "mlp.up_proj", y)
            x = x + self._linear(prefix + "mlp.down_proj", inner)
        head = self.weights.get("lm_head.weight", embedding)
        return self._norm("model.norm", x) @ head.T

    def _attention(
        self, prefix: str, x: Array, cos: Array, sin: Array, cache: list[tuple[Array, Array]], layer: int
    ) -> Array:
        n = len(x)

        def project(name: str, heads: int) -> Array:
            return self._linear(f"{prefix}self_attn.{name}", x).reshape(n, heads, -1).transpose(1, 0, 2)

        q = _rotate(project("q_proj", self.heads), cos, sin)
        k = np.concatenate([cache[layer][0], _rotate(project("k_proj", self.kv_heads), cos, sin)], axis=1)
        v = np.concatenate([cache[layer][1], project("v_proj", self.kv_heads)], axis=1)
        cache[layer] = (k, v)
        past = k.shape[1] - n
        # Query head h reads key/value head h // group, so the queries of one group are stacked as rows.
        q = q.reshape(self.kv_heads, -1, n, self.head_dim)
        scores = q @ k[:, None].transpose(0, 1, 3, 2) / np.float32(np.sqrt(self.head_dim))
        hidden_future = np.arange(past + n) > past + np.arange(n)[:, None]
        scores = np.where(hidden_future, np.float32(-np.inf), scores)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = scores / scores.sum(axis=-1, keepdims=True) @ v[:, None]
        return self._linear(
            f"{prefix}self_attn.o_proj", mixed.reshape(self.heads, n, -1).transpose(1, 0, 2).reshape(n, -1)
        )

    def _linear(self, name: str, x: Array) -> Array:
        return x @ self.weights[name + ".weight"].T

    def _norm(self, name: str, x: Array) -> Array:
        mean_square = np.mean(np.square(x), axis=-1, keepdims=True)
        return (
            x
            / np.sqrt(mean_square + np.float32(self.config["rms_norm_eps"]))
            * self.weights[name + ".weight"]
        )


def _rotate(x: Array, cos: Array, sin: Array) -> Array:
    """Rotary embedding of x: float32[heads, n, head_dim]; dimension i is paired with i + head_dim / 2."""
    first, second = np.split(x, 2, axis=-1)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)

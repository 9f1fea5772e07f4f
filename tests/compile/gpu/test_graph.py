"""Lowering whole models: launches, and the limits of devices at real sizes."""

from __future__ import annotations

from typing import Any

import pytest

from edgellm.bundle.model_config import ModelConfig, Rope
from edgellm.compile.gpu.graph import Graph, lower
from edgellm.compile.gpu.parameters import parameters, splits
from edgellm.compile.plan.limits import DeviceLimits
from edgellm.errors import UnsupportedError
from edgellm.quantize.formats import BITS
from edgellm.quantize.gpu_layout import OUTPUTS


def config(
    family: str, hidden: int, inner: int, heads: int, kv_heads: int, dim: int, vocabulary: int, **more: Any
) -> ModelConfig:
    rope = Rope(theta=1e4, dim=more.pop("rotary", dim))
    return ModelConfig(
        family=family, hidden_size=hidden, intermediate_size=inner, num_layers=2, num_heads=heads,
        num_kv_heads=kv_heads, head_dim=dim, vocab_size=vocabulary, context_length=8192, norm_eps=1e-6,
        rope=rope, **more,
    )  # fmt: skip


# Shapes as their checkpoints' config.json give them, with two layers.
LARGE = {
    "llama-3.1-8b": config("llama", 4096, 14336, 32, 8, 128, 128256),
    "mistral-7b": config("mistral", 4096, 14336, 32, 8, 128, 32768, sliding_window=4096),
    "qwen2.5-7b": config("qwen2", 3584, 18944, 28, 4, 128, 152064, qkv_bias=True),
    "qwen3-8b": config("qwen3", 4096, 12288, 32, 8, 128, 151936, qk_norm=True),
    "phi-4-mini": config(
        "phi3", 3072, 8192, 24, 8, 128, 200064, rotary=96, tie_word_embeddings=True
    ),
    "gemma-3-12b": config(
        "gemma3_text", 3840, 15360, 16, 8, 256, 262208, qk_norm=True, post_norms=True, norm_adds_one=True,
        tie_word_embeddings=True, activation="gelu_tanh", sliding_window=1024, sliding_layers=(True, False),
        local_rope=Rope(theta=1e4, dim=256),
    ),
}  # fmt: skip


def lowered(name: str, quant: str, arithmetic: str, limits: DeviceLimits) -> Graph:
    return lower(LARGE[name], quant, arithmetic, limits, max_tokens=256, max_rows=64)  # type: ignore[arg-type]


def test_too_little_memory_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="bytes of workgroup memory"):
        lowered("llama-3.1-8b", "int4", "fp32", DeviceLimits(shared_bytes=8192))


def test_matrices_beyond_a_binding_are_in_parts() -> None:
    """Parts are whole tiles, cover every row once, and are all launched."""
    c, limits = LARGE["gemma-3-12b"], DeviceLimits()
    [embedding] = [one for one in parameters(c) if one.name == "embed"]
    found = splits(embedding, BITS["int4"], limits.binding_bytes)
    assert len(found) == 4
    assert [first for first, _ in found] == [sum(rows for _, rows in found[:i]) for i in range(len(found))]
    assert sum(rows for _, rows in found) == embedding.rows
    assert all(rows % OUTPUTS == 0 for _, rows in found)
    for routine in lowered("gemma-3-12b", "int4", "fp32", limits).routines:
        arguments = [launch.arguments for launch in routine.launches]
        for part in range(len(found)):
            assert sum(f"embed.{part}.w" in one for one in arguments) == 2  # embedding and logits


@pytest.mark.parametrize(("parts", "each"), [(1, 6), (8, 7)])
def test_launches_of_a_token(parts: int, each: int) -> None:
    """A layer: qkv, rope, attention (and its merge), o, gate_up, down. Then embed, norm, logits, and two
    launches for the largest of 2,048 logits at most.
    """
    c = config("llama", 256, 512, 8, 4, 32, 2048)
    graph = lower(c, "int4", "fp32", DeviceLimits(attention_parts=parts), max_tokens=256, max_rows=64)
    assert [routine.most for routine in graph.routines] == [1, 4, 8, 32, 256]
    assert len(graph.routines[0].launches) == each * c.num_layers + 5

"""Bytes of a decode step: exact for what launches hand to each other, and by hand for the rest."""

from __future__ import annotations

from functools import cache

import msgspec
import pytest

from edgellm.bench.traffic import Traffic, decode_traffic, decode_uses
from edgellm.bundle.model_config import ModelConfig, Rope
from edgellm.checkpoint import Checkpoint
from edgellm.compile.plan.limits import DeviceLimits
from edgellm.compile.plan.plan import Plan
from tests.support import require

TINYLLAMA = ModelConfig(
    family="llama", hidden_size=2048, intermediate_size=5632, num_layers=22, num_heads=32, num_kv_heads=4,
    head_dim=64, vocab_size=32000, context_length=2048, norm_eps=1e-5, rope=Rope(theta=10000.0, dim=64),
)  # fmt: skip


@pytest.fixture(autouse=True)
def _needs_tvm() -> None:
    require(module="tvm", reason="it lowers the models: pip install 'edgellm[tvm]'")


@cache
def lowered(config: ModelConfig, arithmetic: str, binding_bytes: int = 128 << 20) -> tuple[Plan, object]:
    """The plan, and the graph with its kernels."""
    from edgellm.compile.gpu.export import Source
    from edgellm.compile.gpu.graph import lower
    from edgellm.compile.plan.assemble import assemble

    limits = DeviceLimits(binding_bytes=binding_bytes)
    graph = lower(config, "int4", arithmetic, limits, max_tokens=64, max_rows=32)  # type: ignore[arg-type]
    sources = [Source("", kernel.name, kernel.sizes, False) for kernel in graph.kernels]
    plan = assemble(
        graph.kernels, sources, graph.routines, graph.buffers, graph.sizes, language="wgsl",
        arithmetic=arithmetic,  # type: ignore[arg-type]
    )  # fmt: skip
    return plan, graph


def test_a_layer_decodes_in_eight_launches_at_most() -> None:
    plan, _ = lowered(TINYLLAMA, "fp16")
    for batch in (1, 4, 8, 32):
        traffic = decode_traffic(plan, TINYLLAMA, [100] * batch)
        assert traffic.launches_per_layer <= 8
        assert traffic.launches == 22 * traffic.launches_per_layer + 5
    assert decode_traffic(plan, TINYLLAMA, [100]).launches == 159


def test_the_least_of_a_known_shape_by_hand() -> None:
    c = TINYLLAMA
    plan, _ = lowered(c, "fp16")
    matrix = 2560 * 2048 + 2048 * 2048 + 2 * 5632 * 2048 + 2048 * 5632
    weights = (22 * matrix + 32000 * 2048) * 18 // 32 + (2 * 22 + 1) * 2048 * 4
    for batch, context in ((1, 80), (8, 500), (32, 17)):
        traffic = decode_traffic(plan, c, [context] * batch)
        cache = batch * context * 22 * 2 * 4 * 64 * 2
        embedding = batch * 2048 * 18 // 32
        logits = batch * (32000 * 4 + 64 * 8 + 4)
        inputs = batch * (4 * 4 + -(-context // 16) * 4 + 4 + 64 * 4)  # and the angles' rows
        assert traffic.least_bytes == weights + cache + embedding + logits + inputs
        assert traffic.moved_bytes > traffic.least_bytes
    assert traffic.moved_bytes < 1.3 * traffic.least_bytes


@pytest.mark.parametrize(
    ("name", "arithmetic"), [("llama-biases", "fp32"), ("gemma3", "fp16"), ("phi3-longrope-long", "fp16")]
)
def test_what_launches_hand_over_is_what_kernels_declare(name: str, arithmetic: str) -> None:
    from edgellm.compile.plan.assemble import argument_bytes
    from tests.backends.plan.models import checkpoint

    with Checkpoint.open(checkpoint(name)) as opened:
        config = opened.config
    plan, graph = lowered(config, arithmetic)
    kernels = {one.name: one for one in graph.kernels}  # type: ignore[attr-defined]
    slots = {one.name for one in plan.buffers if one.kind == "slot"}
    for batch in (1, 3, 20):
        routine = next(one for one in plan.routines if batch <= one.most)
        sizes = {"n": batch, "b": batch, "r": batch, "m": 2, "blocks": 8, "context": 64}
        declared = {name: argument_bytes(kernel, sizes) for name, kernel in kernels.items()}
        seen = 0
        for use in decode_uses(plan, config, [20] * batch):
            launch = routine.launches[use.launch]
            if use.buffer in slots:
                seen += 1
                assert use.most == declared[launch.kernel][launch.arguments.index(use.buffer)], launch
        assert seen > 10


def test_parts_of_a_matrix_share_what_they_write() -> None:
    whole, _ = lowered(TINYLLAMA, "fp32")
    split, _ = lowered(TINYLLAMA, "fp32", 20 << 20)
    [one, parts] = [decode_traffic(plan, TINYLLAMA, [64]) for plan in (whole, split)]
    assert parts.launches == one.launches + 2, "embedding and logits in two parts each"
    assert parts.least_bytes == one.least_bytes
    # The second part of the logits and of the embedding reads its input again, no more.
    assert parts.moved_bytes - one.moved_bytes == 2048 * 4 + 4 * 4


def test_a_window_bounds_what_attention_reads() -> None:
    c = msgspec.structs.replace(TINYLLAMA, sliding_window=32, sliding_layers=(True, False) * 11)
    plan, _ = lowered(c, "fp16")

    def cached(context: int) -> int:
        uses = decode_uses(plan, c, [context])
        return sum(use.bytes for use in uses if ".keys" in use.buffer or ".values" in use.buffer)

    token = 2 * 4 * 64 * 2
    assert cached(20) == 22 * (20 + 1) * token
    assert cached(100) == 11 * (32 + 100 + 2) * token


def test_a_tied_embedding_counts_once() -> None:
    c = msgspec.structs.replace(TINYLLAMA, tie_word_embeddings=True)
    tied, _ = lowered(c, "fp16")
    apart, _ = lowered(TINYLLAMA, "fp16")
    found: list[Traffic] = [
        decode_traffic(plan, config, [64] * 8) for plan, config in ((tied, c), (apart, TINYLLAMA))
    ]
    assert found[1].least_bytes - found[0].least_bytes == 8 * 2048 * 18 // 32
    assert found[1].moved_bytes == found[0].moved_bytes

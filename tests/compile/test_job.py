"""What libraries are shared by: the graph's shape, not all that a model says."""

from __future__ import annotations

import msgspec

from edgellm.bundle.model_config import ModelConfig, Rope, RopeScaling
from edgellm.compile.isa import X86_64
from edgellm.compile.job import Job, kernel_config
from tests.bundle.example import manifest

MODEL = manifest().model


def key(quant: str = "int8", **changes: object) -> str:
    config: ModelConfig = msgspec.structs.replace(MODEL, **changes)
    return Job(kernel_config(config), X86_64[0], quant, 64, ("fp16",)).key()


def test_frequencies_names_and_lengths_share_a_library() -> None:
    stretched = Rope(theta=5e5, dim=MODEL.rope.dim, scaling=RopeScaling(kind="linear", factor=4.0))
    assert key() == key(family="other") == key(rope=stretched) == key(context_length=99)
    assert key() == key(norm_adds_one=not MODEL.norm_adds_one)
    assert key() == key(attention_scale=MODEL.head_dim**-0.5)


def test_what_the_graph_depends_on_does_not() -> None:
    rope = Rope(theta=1.0, dim=MODEL.rope.dim // 2)
    others = [
        key("int4"), key(hidden_size=MODEL.hidden_size * 2), key(rope=rope), key(norm_eps=1e-3),
        key(attention_scale=0.5), key(qk_norm=not MODEL.qk_norm), key(sliding_window=7),
    ]  # fmt: skip
    assert len({key(), *others}) == len(others) + 1

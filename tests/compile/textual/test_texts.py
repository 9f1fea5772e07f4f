"""Metal's texts, and OpenCL's with fp16: no device here runs them, so they are compiled and run as C++."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgellm.backends.executor import ExecutorLimits
from edgellm.backends.plan.executor import BLOCK_SIZE, PlanExecutor
from edgellm.backends.plan.weights import MappedWeights
from edgellm.checkpoint import Checkpoint
from edgellm.compile.plan.codec import decode_plan
from edgellm.compile.plan.plan import PLAN_NAME
from tests.backends.plan.models import checkpoint, program
from tests.backends.tvm.models import Sequences
from tests.compile.textual.front_ends import check_metal
from tests.compile.textual.host import TextHost
from tests.conformance.runner import PROGRAMS, names, read_plan, run
from tests.golden.cases import CONTEXT, golden
from tests.support import require

FAMILIES = ["llama-biases", "mistral-sliding", "qwen2", "qwen3", "gemma3", "phi3-partial-rotary"]
TEXTS = ("metal-fp16", "metal-fp32", "opencl-fp16")
PHONES = ("adreno", "mali")
TOLERANCE = {"fp32": 5e-4, "fp16": 1e-2}
"""Largest error of a logit, as a part of the largest of them."""


@pytest.fixture(autouse=True)
def needs_compilers(needs_tvm: None) -> None:
    require(module="ziglang", reason="compiles kernels' texts as C++: pip install 'edgellm[tvm]'")


def program_of(name: str, text: str) -> Path:
    """As a phone gets it, with fp32 weights; families take turns between the two that take OpenCL."""
    target = "apple-iphone" if text.startswith("metal") else PHONES[FAMILIES.index(name) % 2]
    return program(name, "fp32", (text,), target)


@pytest.mark.parametrize("language", ["metal", "opencl", "cuda"])
@pytest.mark.parametrize("name", names())
def test_conformance(name: str, language: str, tmp_path: Path) -> None:
    run(name, language, lambda *arguments: TextHost(*arguments, tmp_path))


def test_a_wrong_text_is_found(tmp_path: Path) -> None:
    """Without its barriers, a sum over a workgroup is not the sum."""
    _, sources = read_plan("reduce", "metal")
    assert "threadgroup_barrier" in sources["lengths.metal"]

    def open_host(plan, given, *arguments):  # type: ignore[no-untyped-def]
        spoiled = {
            name: text.replace("threadgroup_barrier(mem_flags::mem_threadgroup);", "")
            for name, text in given.items()
        }
        return TextHost(plan, spoiled, *arguments, tmp_path)

    with pytest.raises(AssertionError, match="Not equal"):
        run("reduce", "metal", open_host)


def test_the_front_end_finds_a_wrong_metal_text() -> None:
    """Device memory is no thread's memory, and what is only read is not written."""
    text = (PROGRAMS / "scale" / "metal-fp32" / "scale.metal").read_text()
    for old, new in (
        ("  int v = ", "  thread float* p = b0_x_ptr; int v = "),
        ("b2_y_ptr[v_1] = ", "b0_x_ptr[v_1] = "),
        ("b1_w_ptr[v]", "b3_w_ptr[v]"),
    ):
        assert text.replace(old, new) != text
        with pytest.raises(AssertionError, match="error:"):
            check_metal(text.replace(old, new))


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", FAMILIES)
def test_logits_are_the_references(name: str, text: str, tmp_path: Path) -> None:
    folder = program_of(name, text)
    plan = decode_plan((folder / text / PLAN_NAME).read_bytes(), text)
    sources = {kernel.source: (folder / text / kernel.source).read_text() for kernel in plan.kernels}
    sizes = plan.sizes | {"b": 4, "m": CONTEXT // BLOCK_SIZE, "blocks": 32, "context": CONTEXT}
    host = TextHost(plan, sources, MappedWeights(folder), sizes, tmp_path)
    with Checkpoint.open(checkpoint(name)) as opened:
        vocabulary = opened.config.vocab_size
    limits = ExecutorLimits(
        vocab_size=vocabulary, context=CONTEXT, max_batch=4, block_size=BLOCK_SIZE, num_blocks=32,
        max_step_tokens=plan.sizes["n"],
    )  # fmt: skip
    reference = golden(name)
    ids = reference.prompt + reference.tokens
    model = Sequences(PlanExecutor(plan, host, limits, sizes, None))
    # A prompt, some tokens at once, and single ones: every routine runs.
    pieces = [ids[: len(ids) - 6], ids[len(ids) - 6 : len(ids) - 2], ids[-2:-1], ids[-1:]]
    logits = np.concatenate([model.step({0: piece})[0] for piece in pieces])
    error = np.abs(logits[reference.positions] - reference.logits).max()
    assert error < TOLERANCE[plan.arithmetic] * np.abs(reference.logits).max()

"""Whole programs: fp16 beside fp32, what is found of the logits on the device, and matrices in parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgellm.backends.plan.executor import PlanExecutor
from edgellm.backends.plan.weights import write_weights
from edgellm.backends.tvm.gpu_weights import make
from edgellm.checkpoint import Checkpoint
from edgellm.compile.gpu import graph
from edgellm.compile.gpu.program import write_program
from edgellm.compile.gpu.top import TOP
from edgellm.compile.plan.limits import DeviceLimits
from edgellm.quantize.formats import BITS
from tests.backends.plan.models import adapter_number, checkpoint, executor, open_program
from tests.backends.tvm.models import Sequences
from tests.compile.gpu.runner import Runner
from tests.golden.cases import CONTEXT, golden


def tokens(name: str) -> list[int]:
    reference = golden(name)
    return reference.prompt + reference.tokens


@pytest.mark.parametrize(
    ("name", "target"), [("llama", None), ("gemma3", None), ("gemma3", "adreno"), ("llama", "mali")]
)
def test_fp16_is_near_fp32(half_device: Runner, name: str, target: str | None) -> None:
    """The same int4 weights, at once and token by token."""
    text = tokens(name)
    exact = Sequences(executor(name, "wgsl", "int4")).step({0: text})[0]
    half = executor(name, "wgsl", "int4", "fp16", target)
    at_once = Sequences(half).step({0: text})[0]
    feeding = Sequences(half, 1)
    one_by_one = np.concatenate([feeding.step({0: [token]})[0] for token in text])
    scale = np.sqrt((exact**2).mean())
    # Where tokens are many, products are added up in fp16 within a group.
    for found, most in ((at_once, 6e-3), (one_by_one, 3e-3)):
        assert 0 < np.sqrt(((found - exact) ** 2).mean()) < most * scale


@pytest.mark.parametrize("language", ["wgsl", "opencl"])
def test_largest_logits(language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program's other outputs are of its logits, in every routine."""
    model = executor("llama", language)
    assert model.host is not None
    run, extra = model.host.run, []

    def more(inputs, sizes, outputs):
        r = sizes["r"]
        found = run(inputs, sizes, outputs | {"top": TOP * r, "top_ids": TOP * r, "log_sums": r})
        extra.append(found)
        return found

    monkeypatch.setattr(model.host, "run", more)
    for count in (1, 5, 20, 40):
        logits = Sequences(model, count).step({0: tokens("llama")[:count]})[0]
        order = np.argsort(-logits, axis=1, kind="stable")[:, :TOP]
        top, ids, sums = (
            np.concatenate([one[name] for one in extra]) for name in ("top", "top_ids", "log_sums")
        )
        assert np.array_equal(ids.view(np.int32).reshape(-1, TOP), order)
        assert np.array_equal(top.reshape(-1, TOP), np.take_along_axis(logits, order, 1))
        assert np.allclose(sums, np.log(np.exp(logits.astype(np.float64)).sum(1)), atol=1e-5)
        extra.clear()


def test_matrices_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every matrix in parts of 64 rows gives what whole matrices give."""
    name, quant, language = "gemma3", "int4", "wgsl"
    # No device has bindings that small: what is no matrix does not fit.
    monkeypatch.setattr(graph, "check_fits", lambda *_: None)
    number = adapter_number(language)
    with Checkpoint.open(checkpoint(name)) as opened:
        limits = DeviceLimits(binding_bytes=64 * opened.config.hidden_size * BITS[quant] // 8)
        write_program(opened.config, quant, language, "fp32", limits, CONTEXT, tmp_path / f"{language}-fp32")  # type: ignore[arg-type]
        made = make(opened, BITS[quant], limits.binding_bytes)
        write_weights(tmp_path, (buffer for _, buffers in made for buffer in buffers))
    model: PlanExecutor = open_program(tmp_path, name, number)
    text = tokens(name)
    for pieces in ([text], [[one] for one in text[:5]]):
        whole, parts = Sequences(executor(name, language, quant)), Sequences(model)
        for piece in pieces:
            np.testing.assert_array_equal(parts.step({0: piece})[0], whole.step({0: piece})[0])
    model.close()

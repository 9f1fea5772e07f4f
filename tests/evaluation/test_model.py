"""Logits at the positions of a sequence, from executors of both kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgellm
from edgellm.backends.executor import ExecutorLimits
from edgellm.bundle import Bundle
from edgellm.errors import ExecutorError, UnsupportedError
from edgellm.evaluation import model as model_module
from edgellm.evaluation.model import ScoredModel, step_logits
from tests.backends.build import model
from tests.engine.numpy_executor import NumpyExecutor
from tests.golden.cases import CASES, CONTEXT, golden
from tests.support import require

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma3", "phi3")


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_of_ctranslate2_are_the_recorded_ones(name: str, tmp_path: Path) -> None:
    """As far as its sliding windows let it go."""
    require(module="ctranslate2", reason="it runs the models: pip install 'edgellm[ctranslate2]'")
    reference = golden(name)
    source = CASES[name].make(tmp_path / "checkpoint", reference.seed)
    built = edgellm.build(source, quant="fp32", backend="ctranslate2", context=CONTEXT, out=tmp_path / "b")
    sequence = np.array(reference.prompt + reference.tokens, np.int32)
    with ScoredModel(Bundle.open(built), window=CONTEXT, threads=1) as opened:
        assert opened.max_tokens == (16 if name == "gemma3" else CONTEXT)
        places = [i for i, position in enumerate(reference.positions) if position < opened.max_tokens]
        assert len(places) >= 2
        n = min(len(sequence), opened.max_tokens)
        first = int(reference.positions[places].min()) + 1
        logits = opened.logits(np.append(sequence[:n], np.int32(5)), first)
    assert len(logits) == n + 1 - first
    found = logits[reference.positions[places] - first + 1]
    np.testing.assert_allclose(found, reference.logits[places], rtol=0, atol=1e-4)


def test_ctranslate2_refuses_more_than_its_window() -> None:
    require(module="ctranslate2", reason="it runs the models: pip install 'edgellm[ctranslate2]'")
    executor = model("mistral-sliding").executor
    assert executor.max_logits_tokens == 16 < executor.limits.context
    assert executor.sequence_logits([5] * 16).shape == (16, executor.limits.vocab_size)
    with pytest.raises(ExecutorError, match="at most 16"):
        executor.sequence_logits([5] * 17)


@pytest.mark.parametrize("first", [0, 1, 20, 36])
@pytest.mark.parametrize("values", [61, 61 * 7, 1 << 25])
def test_steps_give_the_logits_of_one_pass(first: int, values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The executor's cache begins as NaN and its steps take 16 tokens, or as few as the logits allow."""
    ids = np.random.default_rng(1).integers(0, 61, 37).astype(np.int32)
    whole = step_logits(NumpyExecutor(max_step_tokens=64), ids, 0)
    monkeypatch.setattr(model_module, "_STEP_VALUES", values)
    executor = NumpyExecutor()
    logits = step_logits(executor, ids, first)
    assert logits.shape == (37 - first, 61) and np.isfinite(logits).all()
    np.testing.assert_allclose(logits, whole[first:], atol=1e-5)
    assert sum(len(step.logits_rows) for step in executor.log) == 37 - first
    # The next text writes over the blocks of this one.
    again = step_logits(executor, ids[::-1].copy(), 0)
    np.testing.assert_allclose(again, step_logits(NumpyExecutor(), ids[::-1].copy(), 0), atol=1e-5)


def test_backends_without_logits_are_refused(bundle_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []

    class TextOnly:
        mode = "request"
        limits = ExecutorLimits(vocab_size=384, context=64, max_batch=1)

        def close(self) -> None:
            closed.append(self)

    class Backend:
        def load(self, *_: Any) -> TextOnly:
            return TextOnly()

    monkeypatch.setattr(model_module, "get_backend", lambda name: Backend())
    with pytest.raises(UnsupportedError, match="no logits"):
        ScoredModel(Bundle.open(bundle_dir), window=64, threads=1)
    assert len(closed) == 1

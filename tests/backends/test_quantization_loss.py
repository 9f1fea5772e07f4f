"""What int8 costs the demo model, on questions it was not trained on, against float32 arithmetic in numpy."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from edgellm.resources import data_dir
from tests.support import require

TEXTS = 150


def log_softmax(logits: np.ndarray) -> np.ndarray:
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    return wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True))


def test_int8_keeps_the_demo_models_choices_and_perplexity(
    demo_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Top-1 agreement at least 98 %, perplexity within 1 %."""
    require(module="ctranslate2", reason="it runs the bundle: pip install 'edgellm[cpu]'")
    import ctranslate2
    from tokenizers import Tokenizer

    demo = data_dir("models") / "demo"
    monkeypatch.setattr(sys, "path", [str(demo), *sys.path])
    from corpus import render  # type: ignore[import-not-found]
    from heldout import items  # type: ignore[import-not-found]
    from reference import Reference  # type: ignore[import-not-found]

    tokenizer = Tokenizer.from_file(str(demo / "tokenizer.json"))
    reference = Reference(demo)
    engine = demo_bundle / "ctranslate2"
    generator = ctranslate2.Generator(str(engine), device="cpu", compute_type="int8")
    every = list(items())
    agreed, tokens = 0, 0
    nats = np.zeros(2)
    for item in every[:: max(1, len(every) // TEXTS)]:
        text = render(item.messages, add_generation_prompt=True) + item.answer + "<|im_end|>"
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        exact = log_softmax(reference.logits(ids))
        quantized = log_softmax(np.asarray(generator.forward_batch([ids]))[0])
        agreed += int((exact.argmax(-1) == quantized.argmax(-1)).sum())
        tokens += len(ids)
        following = np.array(ids[1:])
        for i, scores in enumerate((exact, quantized)):
            nats[i] -= scores[np.arange(len(following)), following].sum()
    perplexity = np.exp(nats / tokens)
    assert agreed / tokens >= 0.98, f"top-1 agreement {agreed / tokens:.4f} over {tokens} tokens"
    assert abs(perplexity[1] / perplexity[0] - 1) <= 0.01, perplexity
    print(f"agreement {agreed / tokens:.4f}, perplexity {perplexity[0]:.4f} -> {perplexity[1]:.4f}")

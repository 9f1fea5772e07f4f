"""The type of the key/value cache, chosen when a bundle is opened."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgellm import Engine
from edgellm.backends import get_backend
from edgellm.backends.base import LoadOptions
from edgellm.bundle import Bundle
from edgellm.errors import UsageError
from edgellm.evaluation import evaluate
from edgellm.evaluation.model import step_logits
from tests.evaluation.demo import module, write_texts


def test_int8_costs_the_demo_model_next_to_nothing(demo_int4: Path) -> None:
    """At most 0.2 % of its perplexity on held-out texts."""
    bundle = Bundle.open(demo_int4)
    tokenizer = bundle.tokenizer()
    texts = [
        np.array(tokenizer.encode(text, add_special_tokens=False), np.int32)
        for text in module("heldout").texts()[::6]
    ]
    nats = []
    for kv in ("fp16", "int8"):
        executor = get_backend("tvm").load(bundle, LoadOptions(kv=kv, max_batch=1))
        total = 0.0
        for ids in texts:
            logits = step_logits(executor, ids[:-1], 0).astype(np.float64)  # type: ignore[arg-type]
            logits -= logits.max(axis=1, keepdims=True)
            scores = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
            total -= scores[np.arange(len(ids) - 1), ids[1:]].sum()
        executor.close()
        nats.append(total / sum(len(ids) - 1 for ids in texts))
    assert 0 < abs(np.exp(nats[1] - nats[0]) - 1) < 0.002


def test_int8_takes_half_the_memory_and_answers(demo_int4: Path) -> None:
    question = "What is a bundle?"
    answers, sizes = [], []
    for kv in (None, "int8"):
        with Engine(demo_int4, kv=kv, max_batch=2) as engine:
            assert engine.memory is not None
            sizes.append(engine.memory.cache)
            answers.append(engine.generate([question], max_tokens=40, temperature=0.0)[0].text)
    assert 0.5 < sizes[1] / sizes[0] < 0.56
    assert answers[0] == answers[1]


def test_what_the_cache_costs_can_be_evaluated(demo_int4: Path, tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "t.jsonl", [module("heldout").texts()[0] * 3])
    reports = [evaluate(demo_int4, texts, kv=kv, against=demo_int4).against for kv in (None, "int8")]
    assert [report is not None and report.kl_max > 0 for report in reports] == [False, True]


def test_what_a_bundle_has_no_code_for_is_refused(demo_int4: Path, demo_bundle: Path) -> None:
    with pytest.raises(UsageError, match=r"fp32 cannot go with int4 weights, only --kv fp16 or --kv int8"):
        Engine(demo_int4, kv="fp32")
    with pytest.raises(UsageError, match="--backend tvm"):
        Engine(demo_bundle, kv="int8")

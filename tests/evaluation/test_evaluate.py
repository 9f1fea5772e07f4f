"""Whole evaluations against the numpy model of models/demo, computed here in the plainest way."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import edgellm
from edgellm.bundle import Bundle
from edgellm.errors import CheckpointError, EdgeLLMError, UsageError
from edgellm.evaluation import evaluate
from tests.evaluation.demo import log_softmax, module, reference_model, tokens, write_texts
from tests.make_checkpoints import make_checkpoint
from tests.support import require


@pytest.fixture(autouse=True)
def _needs_ctranslate2() -> None:
    require(module="ctranslate2", reason="it runs the bundles: pip install 'edgellm[ctranslate2]'")


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    out = tmp_path_factory.mktemp("demo") / "int8"
    return Bundle.open(edgellm.build("demo", quant="int8", backend="ctranslate2", out=out))


@pytest.fixture(scope="module")
def fp32(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    out = tmp_path_factory.mktemp("demo") / "fp32"
    return Bundle.open(edgellm.build("demo", quant="fp32", backend="ctranslate2", out=out))


def test_fp32_has_the_perplexity_of_the_numpy_model(fp32: Bundle, tmp_path: Path) -> None:
    texts = module("heldout").texts()[::40]
    nats, count = 0.0, 0
    for text in texts:
        ids = tokens(text)
        likely = log_softmax(reference_model().logits(ids[:-1]))
        nats -= likely[np.arange(len(ids) - 1), ids[1:]].sum()
        count += len(ids) - 1
    report = evaluate(fp32, write_texts(tmp_path / "t.jsonl", texts), threads=1)
    assert report.tokens == count and report.documents == len(texts) and report.window == 512
    assert report.perplexity == pytest.approx(np.exp(nats / count), rel=1e-5)
    size = sum(len(text.removeprefix("<|bos|>").encode()) for text in texts)
    assert report.bytes == size and report.bits_per_byte == pytest.approx(nats / np.log(2) / size, rel=1e-5)


def test_a_long_text_is_scored_by_overlapping_windows(fp32: Bundle, tmp_path: Path) -> None:
    """Every token again from the window that it belongs to by its place."""
    text = " ".join(item.answer for item in list(module("heldout").items())[::9])[:1200]
    (tmp_path / "t.txt").write_text(text, encoding="utf-8")
    ids = tokens(text)[1:]
    room, half = 63, 31
    assert len(ids) > 4 * room
    nats, likely = 0.0, {}
    for i in range(len(ids)):
        end = room if i < room else room + -(-(i + 1 - room) // half) * half
        start = max(0, min(end, len(ids)) - room)
        assert i - start >= min(i, half)
        if (start, end) not in likely:
            likely[start, end] = log_softmax(reference_model().logits([0, *ids[start:end]]))
        nats -= likely[start, end][i - start, ids[i]]
    report = evaluate(fp32, tmp_path / "t.txt", window=64, threads=1)
    assert report.tokens == len(ids) and report.window == 64
    assert np.log(report.perplexity) * len(ids) == pytest.approx(nats, rel=1e-6)


def test_comparison_with_the_numpy_model(int8: Bundle, fp32: Bundle, tmp_path: Path) -> None:
    """Divergences of CTranslate2's int8 logits from numpy's, token by token."""
    import ctranslate2

    texts = module("heldout").texts()[5::30]
    generator = ctranslate2.Generator(str(int8.path / "ctranslate2"), compute_type="int8", intra_threads=1)
    divergences, same, ratio = [], [], 0.0
    for text in texts:
        ids = tokens(text)
        p = log_softmax(reference_model().logits(ids[:-1]))
        q = log_softmax(np.asarray(generator.forward_batch([ids[:-1]]))[0])
        divergences += (np.exp(p) * (p - q)).sum(axis=1).tolist()
        same += (p.argmax(axis=1) == q.argmax(axis=1)).tolist()
        ratio += (p - q)[np.arange(len(ids) - 1), ids[1:]].sum()
    file = write_texts(tmp_path / "t.jsonl", texts)
    against = evaluate(int8, file, against=str(fp32.path), threads=1).against
    assert against is not None and against.name == "fp32 (fp32)"
    assert against.kl_mean == pytest.approx(np.mean(divergences), rel=1e-2) and against.kl_mean > 1e-5
    assert against.kl_median == pytest.approx(np.median(divergences), rel=2e-2, abs=1e-7)
    assert against.kl_p99 == pytest.approx(np.quantile(divergences, 0.99), rel=1e-2)
    assert against.kl_max == pytest.approx(max(divergences), rel=1e-2)
    assert against.top1_agreement == pytest.approx(np.mean(same), abs=1.5 / len(same))
    assert against.perplexity_ratio == pytest.approx(np.exp(ratio / len(same)), abs=1e-5)


def test_a_checkpoint_is_built_for_the_occasion(
    int8: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It agrees with a numpy model, whichever backend builds it, and leaves nothing behind."""
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    texts = module("heldout").texts()[::60]
    nats, count = 0.0, 0
    for text in texts:
        ids = tokens(text)
        nats -= log_softmax(reference_model().logits(ids[:-1]))[np.arange(len(ids) - 1), ids[1:]].sum()
        count += len(ids) - 1
    seen = []
    report = evaluate(
        int8,
        write_texts(tmp_path / "t.jsonl", texts),
        against="demo",
        threads=1,
        on_progress=lambda stage, done, total: seen.append((stage, done, total)),
    )
    assert report.against is not None and report.against.name.startswith("demo (fp32, ")
    assert report.against.perplexity == pytest.approx(np.exp(nats / count), rel=1e-4)
    assert not [path for path in (tmp_path / "tmp").iterdir() if path.name.startswith("edgellm-eval")]
    assert seen[-1] == ("score", 2 * report.tokens, 2 * report.tokens)
    assert any(stage == "convert" for stage, *_ in seen)


def test_a_bundle_against_itself(int8: Bundle, tmp_path: Path) -> None:
    file = write_texts(tmp_path / "t.jsonl", ["What is a bundle?", "Hello there, how are you?"])
    report = evaluate(int8, file, against=str(int8.path), threads=1)
    against = report.against
    assert against is not None and against.perplexity == report.perplexity
    assert (against.perplexity_ratio, against.kl_max, against.top1_agreement) == (1, 0, 1)


def test_max_tokens_stops_early(int8: Bundle, tmp_path: Path) -> None:
    file = write_texts(tmp_path / "t.jsonl", ["What is a bundle?"] * 9)
    assert evaluate(int8, file, max_tokens=11, threads=1).tokens == 11


def test_the_window_must_fit(int8: Bundle, tmp_path: Path) -> None:
    file = tmp_path / "t.txt"
    file.write_text("What is a bundle? " * 400)
    assert evaluate(int8, file, window=1024, max_tokens=1500, threads=1).window == 1024
    with pytest.raises(UsageError, match=r"--window is 1025, but the context .* at most 1024"):
        evaluate(int8, file, window=1025)
    with pytest.raises(UsageError, match="a window of 2 tokens is too small; at least 3"):
        evaluate(int8, file, window=2)
    small = evaluate(int8, file, window=3, max_tokens=20, threads=1)
    assert small.tokens == 20 and small.window == 3


def test_a_context_below_the_default_window(tmp_path: Path) -> None:
    built = edgellm.build("demo", quant="int8", backend="ctranslate2", context=40, out=tmp_path / "b")
    file = tmp_path / "t.txt"
    file.write_text("What is a bundle? " * 40)
    assert evaluate(built, file, threads=1).window == 40


def test_a_sliding_window_bounds_the_window(tmp_path: Path) -> None:
    """On CTranslate2 alone: its pass over a text masks only the future."""
    source = make_checkpoint(tmp_path / "c", "mistral", sliding_window=16)
    built = edgellm.build(source, quant="fp32", backend="ctranslate2", out=tmp_path / "b")
    file = tmp_path / "t.txt"
    file.write_text("hello world what is the bundle " * 9)
    assert evaluate(built, file, threads=1).window == 16
    with pytest.raises(UsageError, match=r"--window is 17, but .*sliding window.*at most 16"):
        evaluate(built, file, window=17)


def test_references_that_cannot_be_compared(
    checkpoint_dir: Path, bundle_dir: Path, int8: Bundle, tmp_path: Path
) -> None:
    file = write_texts(tmp_path / "t.jsonl", ["hello world"])
    for against in (bundle_dir, checkpoint_dir):
        with pytest.raises(UsageError, match=r"has another tokenizer.json"):
            evaluate(int8, file, against=str(against), threads=1)
    wider = make_checkpoint(tmp_path / "wider", "llama", vocab_size=400)
    shutil.copy(checkpoint_dir / "tokenizer.json", wider / "tokenizer.json")
    with pytest.raises(UsageError, match=r"has 400 tokens in its vocabulary and .* 384"):
        evaluate(bundle_dir, file, against=str(wider), threads=1)
    with pytest.raises(EdgeLLMError):
        evaluate(int8, file, against=str(tmp_path / "missing"), threads=1)
    with pytest.raises(CheckpointError):
        evaluate(int8, file, against=str(tmp_path), threads=1)

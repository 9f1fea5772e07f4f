"""The numbers of each token, against plain sums in exact arithmetic, and the figures made of them."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from edgellm.errors import ExecutorError
from edgellm.evaluation.report import summarize
from edgellm.evaluation.scores import score


def probabilities(logits: np.ndarray) -> list[float]:
    weights = [math.exp(value - float(logits.max())) for value in logits.astype(float)]
    total = math.fsum(weights)
    return [weight / total for weight in weights]


@pytest.mark.parametrize("spread", [0.01, 1.0, 8.0])
def test_scores_are_the_textbook_sums(spread: float) -> None:
    rng = np.random.default_rng(3)
    model, reference = (rng.normal(0, spread, (40, 97)).astype(np.float32) for _ in range(2))
    targets = rng.integers(0, 97, 40).astype(np.int32)
    scores = score(model, targets, reference)
    for t in range(40):
        q, p = probabilities(model[t]), probabilities(reference[t])
        assert scores.nats[t] == pytest.approx(-math.log(q[targets[t]]), abs=1e-9)
        assert scores.reference_nats[t] == pytest.approx(-math.log(p[targets[t]]), abs=1e-9)
        expected = math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        assert scores.divergence[t] == pytest.approx(expected, rel=1e-9, abs=1e-12)
        assert scores.agrees[t] == (q.index(max(q)) == p.index(max(p)))


def test_divergences_far_below_float32_are_exact() -> None:
    """Two tokens, log odds 0 and d: the divergence is d²/8 to first order."""
    odds = 2.0**-12
    logits = np.array([[odds, 0]], np.float32)
    reference = np.zeros((1, 2), np.float32)
    found = score(logits, np.zeros(1, np.int32), reference).divergence[0]
    assert found == pytest.approx(float(Fraction(odds) ** 2 / 8), rel=1e-6)
    assert score(reference, np.zeros(1, np.int32), reference).divergence[0] == 0


def test_pieces_and_threads_change_nothing() -> None:
    """A vocabulary so large that rows are taken a few at a time."""
    rng = np.random.default_rng(5)
    model, reference = (rng.normal(0, 3, (9, 130_000)).astype(np.float32) for _ in range(2))
    targets = rng.integers(0, 130_000, 9).astype(np.int32)
    together = score(model, targets, reference, threads=3)
    for t in range(9):
        alone = score(model[t : t + 1], targets[t : t + 1], reference[t : t + 1])
        for name in ("nats", "reference_nats", "divergence", "agrees"):
            expected = pytest.approx(getattr(alone, name)[0], rel=1e-10)
            assert getattr(together, name)[t] == expected, name


def test_large_logits_do_not_overflow() -> None:
    logits = np.array([[3e4, -3e4, 0]], np.float32)
    scores = score(logits, np.array([1], np.int32), logits)
    assert scores.nats[0] == 6e4 and scores.divergence[0] == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logits_that_are_no_numbers_are_an_error(bad: float) -> None:
    logits = np.zeros((3, 7), np.float32)
    logits[1, 4] = bad
    targets = np.array([4, 4, 4], np.int32)
    with pytest.raises(ExecutorError, match="not finite"):
        score(logits, targets, np.zeros_like(logits))
    with pytest.raises(ExecutorError, match="not finite"):
        score(logits, targets)


def test_the_report() -> None:
    """Four tokens, by hand: probabilities 1/2, 1/8, 1/2, 1/8 by the model, and 1/4 throughout by the
    reference.
    """

    def rows(*likely: float) -> np.ndarray:
        return np.array([[p, *[(1 - p) / 4] * 4] for p in likely], np.float32)

    with np.errstate(divide="ignore"):
        model, reference = np.log(rows(0.5, 0.125, 0.5, 0.125)), np.log(rows(0.25, 0.25, 0.25, 0.25))
    scores = score(model, np.zeros(4, np.int32), reference)
    report = summarize(scores, documents=2, size=16, window=8, seconds=2.0, reference="it")
    assert (report.documents, report.tokens, report.bytes, report.window) == (2, 4, 16, 8)
    assert report.perplexity == pytest.approx(4)
    assert report.bits_per_byte == pytest.approx(8 / 16)
    assert report.tokens_per_second == 2
    assert report.perplexity_error == pytest.approx(4 * math.log(4) / math.sqrt(12))
    against = report.against
    assert against is not None and against.name == "it"
    assert against.perplexity == pytest.approx(4) and against.perplexity_ratio == pytest.approx(1)
    divergences = [
        0.25 * math.log(0.25 / q) + 0.75 * math.log(0.75 / (1 - q)) for q in (0.5, 0.125, 0.5, 0.125)
    ]
    assert against.kl_mean == pytest.approx(np.mean(divergences), rel=1e-5)
    assert against.kl_median == pytest.approx(np.median(divergences), rel=1e-5)
    assert against.kl_max == pytest.approx(max(divergences), rel=1e-5)
    assert min(divergences) < against.kl_p99 <= against.kl_max
    assert against.top1_agreement == 0.5


def test_one_token_has_no_error() -> None:
    scores = score(np.zeros((1, 4), np.float32), np.zeros(1, np.int32))
    report = summarize(scores, documents=1, size=2, window=8, seconds=1.0, reference=None)
    assert report.perplexity == pytest.approx(4) and report.bits_per_byte == pytest.approx(1)
    assert math.isnan(report.perplexity_error) and report.against is None

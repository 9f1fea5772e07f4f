"""The figures of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgellm.evaluation.scores import Float64s, Scores


@dataclass(frozen=True)
class Comparison:
    """How the bundle's distributions differ from the reference's.

    Attributes:
        name: what the reference is.
        perplexity: of the reference. perplexity_ratio: the bundle's divided by it.
        perplexity_ratio_error: standard error of the ratio, from the differences token by token.
        kl_mean, kl_median, kl_p99, kl_max: KL divergence from the reference, in nats.
        top1_agreement: share of the tokens for which both find the same token likeliest.
    """

    name: str
    perplexity: float
    perplexity_ratio: float
    perplexity_ratio_error: float
    kl_mean: float
    kl_median: float
    kl_p99: float
    kl_max: float
    top1_agreement: float


@dataclass(frozen=True)
class Report:
    """An evaluation.

    Attributes:
        tokens: tokens that were scored. bytes: what they take in UTF-8. documents: where they came from.
        window: tokens of a forward pass at most.
        perplexity: exp of the mean of -ln p of the tokens. perplexity_error: its standard error, as if
            tokens were independent of one another.
        bits_per_byte: bits that the model needs for a byte of the text; can be compared across tokenizers.
        seconds: of scoring; loading and building are not in it, the reference's part is.
    """

    documents: int
    tokens: int
    bytes: int
    window: int
    perplexity: float
    perplexity_error: float
    bits_per_byte: float
    seconds: float
    against: Comparison | None = None

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds


def summarize(
    scores: Scores, *, documents: int, size: int, window: int, seconds: float, reference: str | None
) -> Report:
    """The report of all tokens' scores.

    Args:
        size: UTF-8 bytes of the tokens. reference: the name of what they were compared with.
    """
    nats = scores.nats
    with np.errstate(over="ignore"):  # a broken model's perplexity may well be infinite
        perplexity = float(np.exp(nats.mean()))
        against = None if reference is None else _compare(scores, reference)
    return Report(
        documents=documents,
        tokens=len(nats),
        bytes=size,
        window=window,
        perplexity=perplexity,
        perplexity_error=perplexity * _standard_error(nats),
        bits_per_byte=float(nats.sum() / np.log(2) / size),
        seconds=seconds,
        against=against,
    )


def _compare(scores: Scores, name: str) -> Comparison:
    differences = scores.nats - scores.reference_nats
    ratio = float(np.exp(differences.mean()))
    median, p99, largest = np.quantile(scores.divergence, (0.5, 0.99, 1.0))
    return Comparison(
        name=name,
        perplexity=float(np.exp(scores.reference_nats.mean())),
        perplexity_ratio=ratio,
        perplexity_ratio_error=ratio * _standard_error(differences),
        kl_mean=float(scores.divergence.mean()),
        kl_median=float(median),
        kl_p99=float(p99),
        kl_max=float(largest),
        top1_agreement=float(scores.agrees.mean()),
    )


def _standard_error(values: Float64s) -> float:
    """Standard error of the mean; NaN for a single value."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")

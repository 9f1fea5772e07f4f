"""From logits to the numbers of each token. All in float64: a KL divergence of 1e-6 is a difference of large
terms that float32 would bury.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgellm.backends.executor import Float32s, Int32s
from edgellm.errors import ExecutorError

Float64s = NDArray[np.float64]
_PIECE_VALUES = 1 << 18
"""Logits that are widened to float64 at a time, in each thread."""


@dataclass(frozen=True)
class Scores:
    """Of each scored token.

    Attributes:
        nats: float64[t], -ln of the probability that the model gave to the token.
        reference_nats: the same by the reference. divergence: float64[t], KL divergence of the model's
            distribution from the reference's, in nats. agrees: bool[t], whether both find the same token
            likeliest. All three are empty without a reference.
    """

    nats: Float64s
    reference_nats: Float64s
    divergence: Float64s
    agrees: NDArray[np.bool_]


def score(
    logits: Float32s, targets: Int32s, reference: Float32s | None = None, *, threads: int = 1
) -> Scores:
    """Scores of `targets` int32[t], whose distributions are softmax(`logits`), float32[t, vocab].

    Args:
        reference: float32[t, vocab], the reference's logits.

    Raises:
        ExecutorError: logits are not finite numbers.
    """
    step = max(1, _PIECE_VALUES // logits.shape[1])
    parts = [slice(start, start + step) for start in range(0, len(targets), step)]

    def one(part: slice) -> Scores:
        with np.errstate(all="ignore"):  # what comes of numbers that are not finite is seen below
            return _score(logits[part], targets[part], None if reference is None else reference[part])

    with ThreadPoolExecutor(threads) as pool:
        scores = join(list(pool.map(one, parts)))
    for values in (scores.nats, scores.reference_nats, scores.divergence):
        if not np.isfinite(values).all():
            raise ExecutorError(
                "the model gave logits that are not finite numbers; `edgellm verify` says if it is damaged"
            )
    return scores


def join(parts: list[Scores]) -> Scores:
    """The scores of all parts, in order."""
    return Scores(
        np.concatenate([part.nats for part in parts]),
        np.concatenate([part.reference_nats for part in parts]),
        np.concatenate([part.divergence for part in parts]),
        np.concatenate([part.agrees for part in parts]),
    )


def _score(logits: Float32s, targets: Int32s, reference: Float32s | None) -> Scores:
    rows = np.arange(len(targets))
    q = _centred(logits)
    log_sum = np.log(np.exp(q).sum(axis=1))
    nats = log_sum - q[rows, targets]
    if reference is None:
        return Scores(nats, np.empty(0), np.empty(0), np.empty(0, np.bool_))
    p = _centred(reference)
    weight = np.exp(p)
    total = weight.sum(axis=1)
    reference_nats = np.log(total) - p[rows, targets]
    # sum p (ln p - ln q), where ln p = p - ln(total) and ln q = q - log_sum for the centred logits.
    divergence = np.einsum("tv,tv->t", weight, p - q) / total - np.log(total) + log_sum
    agrees = logits.argmax(axis=1) == reference.argmax(axis=1)
    return Scores(nats, reference_nats, np.maximum(divergence, 0), agrees)


def _centred(logits: Float32s) -> Float64s:
    """float64 with 0 as the largest of each row."""
    wide: Float64s = logits.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    return wide

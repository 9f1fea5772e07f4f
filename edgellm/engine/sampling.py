"""Choosing tokens from logits, for a whole batch at once, in numpy.

The order is that of vLLM and transformers: repetition, presence and frequency penalties, logit bias,
banned end tokens; then temperature, top-k, top-p, min-p. Each row depends on that row alone, so that a
request gets the same tokens in any batch.

What looks at every entry of the vocabulary costs most, so it is left out where it can be. One pass over all
rows finds their maxima, which is all that greedy rows need; top-k and min-p never take the exponential of a
whole row; top-p does, for all rows that need it at once, since it needs their sum. Penalties touch few
entries, and log-probabilities are seldom asked for: both go row by row.
"""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgellm.backends.executor import Float32s, Int32s
from edgellm.backends.params import SamplingParams
from edgellm.engine.generation import TokenLogprob
from edgellm.engine.sequence import Sequence

Ids = NDArray[np.int64]
Weights = NDArray[np.float64]
Choice = tuple[int, TokenLogprob | None]

UNSOUND = -1
"""In place of a token, where the largest logit is infinite or one is not a number."""

CANDIDATES = 512
"""Likeliest tokens looked at first; a whole row is sorted only where these do not cover top-p."""

_FOLD = 16
"""Rows are folded this often to find a bound below which no candidate lies."""
_NEGLIGIBLE = 1e-9
"""Part of the probability that may be left out of a sum: less than float32 weights can tell."""
_COLUMNS = 64
_SMALLEST_TEMPERATURE = 1e-6
"""Below it float32 logits divided by it lose their meaning."""


@dataclass(frozen=True)
class _Cut:
    """Tokens that may be drawn, with weights relative to the likeliest; not `enough`: just the likeliest
    ones, since what to keep depends on the whole row.
    """

    ids: Ids
    weights: Weights
    enough: bool = True


def choose(logits: Float32s, sequences: SequenceOf[Sequence]) -> list[Choice]:
    """The next token of each sequence, or `UNSOUND`, with its log-probability where asked for.

    Args:
        logits: float32[r, vocab], row i for sequences[i]; changed in place.

    Log-probabilities are those of the model after penalties, before temperature and truncation.
    """
    for row, sequence in zip(logits, sequences, strict=True):
        if sequence.adjusted:
            _adjust(row, sequence)
    likeliest = logits.argmax(axis=1)  # finds what is not a number first
    maxima = logits[np.arange(len(logits)), likeliest]
    unsound = ~np.isfinite(maxima)
    logits[unsound] = maxima[unsound] = 0.0
    tokens: list[int] = likeliest.tolist()
    draws = [i for i, sequence in enumerate(sequences) if sequence.rng is not None]
    # Log-probabilities must be taken before drawing, which changes the rows.
    norms = {i: _norm(logits[i]) for i, s in enumerate(sequences) if s.params.logprobs is not None}
    tops = {i: _top(logits[i], norms[i], sequences[i].params.logprobs or 0) for i in norms}
    plain = {i: logits[i].copy() for i in norms if sequences[i].rng is not None}
    if draws:
        rows = logits if len(draws) == len(sequences) else logits[draws]
        for i, token in zip(draws, _draw(rows, maxima[draws], [sequences[i] for i in draws]), strict=True):
            tokens[i] = token
    tokens = [UNSOUND if bad else token for token, bad in zip(tokens, unsound, strict=True)]
    return [
        (token, TokenLogprob(token, float(plain.get(i, logits[i])[token]) - norms[i], tops[i]))
        if i in norms
        else (token, None)
        for i, token in enumerate(tokens)
    ]


def enough(sequence: Sequence, top: int) -> bool:
    """Whether the `top` largest logits of a row decide on its next token, and nothing else is asked for."""
    params = sequence.params
    decided = sequence.rng is None or 0 < params.top_k <= top
    return decided and not sequence.adjusted and params.logprobs is None


def choose_top(top: Float32s, ids: Int32s, sequences: SequenceOf[Sequence]) -> list[Choice]:
    """As `choose`, from the largest logits only, for sequences to which they are `enough`.

    Args:
        top: float32[r, k], largest first; changed in place. ids: int32[r, k], the tokens they belong to.
    """
    places = [at for at, _ in choose(top, sequences)]
    return [(at if at == UNSOUND else int(ids[i, at]), None) for i, at in enumerate(places)]


def _adjust(row: Float32s, sequence: Sequence) -> None:
    """Penalties, biases and banned tokens, in place."""
    params = sequence.params
    if params.repetition_penalty != 1.0:
        seen = sequence.seen.ids
        values = row[seen]
        row[seen] = np.where(
            values > 0, values / params.repetition_penalty, values * params.repetition_penalty
        )
    if params.presence_penalty or params.frequency_penalty:
        answered, times = sequence.answered.ids, sequence.answered.counts
        row[answered] -= np.float32(params.presence_penalty) + np.float32(params.frequency_penalty) * times
    for token, bias in params.logit_bias.items():
        row[token] += np.float32(bias)
    if sequence.new_tokens < params.min_tokens:
        row[list(sequence.end_ids | set(params.stop_token_ids))] = -np.inf


def _draw(logits: Float32s, peaks: Float32s, sequences: SequenceOf[Sequence]) -> list[int]:
    """One token for each row of float32[r, vocab], which is changed, with the maxima float32[r]: the
    cumulative sum of the truncated distribution inverted at one uniform number.
    """
    cuts = [_truncate(*one) for one in zip(logits, peaks, sequences, strict=True)]
    tokens = [0] * len(sequences)
    if dense := [i for i, cut in enumerate(cuts) if not cut.enough]:
        whole = len(dense) == len(sequences)
        weights = logits if whole else logits[dense]
        temperatures = [_temperature(sequences[i].params) for i in dense]
        weights -= (peaks if whole else peaks[dense])[:, None]
        weights /= np.array(temperatures, np.float32)[:, None]
        np.exp(weights, out=weights)
        for i, row, mass in zip(dense, weights, weights.sum(axis=1), strict=True):
            top_p = sequences[i].params.top_p
            if top_p == 1.0:
                tokens[i] = _pick_of_all(row, _uniform(sequences[i]))
            else:
                cuts[i] = _nucleus(row, cuts[i], top_p * float(mass))
    for i, cut in enumerate(cuts):
        if cut.enough:
            weights_of = cut.weights
            if (min_p := sequences[i].params.min_p) > 0:  # the likeliest token has the weight 1
                weights_of = np.where(weights_of >= min_p, weights_of, 0.0)
            cumulative = np.cumsum(weights_of)
            at = int(np.searchsorted(cumulative, _uniform(sequences[i]) * cumulative[-1], side="right"))
            tokens[i] = int(cut.ids[min(at, len(cut.ids) - 1)])
    return tokens


def _temperature(params: SamplingParams) -> float:
    return max(params.temperature, _SMALLEST_TEMPERATURE)


def _uniform(sequence: Sequence) -> float:
    assert sequence.rng is not None
    return float(sequence.rng.random())


def _truncate(row: Float32s, peak: np.float32, sequence: Sequence) -> _Cut:
    """Apply top-k and top-p, as far as that can be done without the sum over the whole row."""
    params, temperature = sequence.params, _temperature(sequence.params)

    def weigh(ids: Ids) -> Weights:
        return np.exp((row[ids].astype(np.float64) - float(peak)) / temperature)

    count = min(params.top_k or row.size, row.size)
    if count == row.size and params.top_p == 1.0 and params.min_p > 0:
        # A bound with room for rounding; what lies below min_p by a hair is left out later.
        bound = float(peak) + temperature * (np.log(params.min_p) - 1e-3)
        ids = np.flatnonzero(row >= np.float32(bound - 1e-5 * abs(bound)))
        return _Cut(ids, weigh(ids))
    if count == row.size:
        count = min(count, CANDIDATES)
    ids = _likeliest(row, count)
    weights = weigh(ids)
    mass = float(weights.sum())
    if not params.top_k and len(ids) < row.size and row.size * weights[-1] > _NEGLIGIBLE * mass:
        return _Cut(ids, weights, enough=False)
    return _keep(ids, weights, params.top_p * mass) if params.top_p < 1.0 else _Cut(ids, weights)


def _keep(ids: Ids, weights: Weights, mass: float) -> _Cut:
    """The first tokens that make up `mass`, with the one that crosses it."""
    count = int(np.searchsorted(np.cumsum(weights), mass)) + 1
    return _Cut(ids[:count], weights[:count])


def _nucleus(weights: Float32s, likeliest: _Cut, mass: float) -> _Cut:
    """The smallest set of tokens of a whole row that makes up `mass`."""
    if likeliest.weights.sum() >= mass:
        return _keep(likeliest.ids, likeliest.weights, mass)
    descending = np.sort(weights)[::-1]
    count = int(np.searchsorted(np.cumsum(descending, dtype=np.float64), mass)) + 1
    ids = np.arange(weights.size)
    if count < weights.size:
        least = descending[count - 1]
        above = np.flatnonzero(weights > least)
        ids = np.concatenate([above, np.flatnonzero(weights == least)[: count - len(above)]])
    return _Cut(ids, weights[ids].astype(np.float64))


def _pick_of_all(weights: Float32s, uniform: float) -> int:
    """A token drawn from the whole row. It is folded into columns, whose sums are quick: first a column is
    drawn, then one of its tokens with what is left of the uniform number.
    """
    count = -(-weights.size // _COLUMNS)
    padded = np.zeros(count * _COLUMNS, np.float32)
    padded[: weights.size] = weights
    folded = padded.reshape(_COLUMNS, count)
    cumulative = np.cumsum(folded.sum(axis=0), dtype=np.float64)
    target = uniform * cumulative[-1]
    column = min(int(np.searchsorted(cumulative, target, side="right")), count - 1)
    before = cumulative[column - 1] if column else 0.0
    inside = np.cumsum(folded[:, column], dtype=np.float64)
    left = (target - before) / (cumulative[column] - before) * inside[-1]
    # Rounding must not lead to a token that cannot be: the last place where the sum still grows.
    last = int(np.searchsorted(inside, inside[-1], side="left"))
    return min(int(np.searchsorted(inside, left, side="right")), last) * count + column


def _likeliest(row: Float32s, count: int) -> Ids:
    """Indices of the `count` largest entries, largest first; ties by the lower index."""
    if count >= row.size:
        return np.argsort(-row, kind="stable")
    columns = row.size // _FOLD
    if 2 * count < columns:
        # `count` columns have a maximum of at least the bound, so as many entries have.
        folded = row[: columns * _FOLD].reshape(_FOLD, columns).max(axis=0)
        bound = np.partition(folded, columns - count)[columns - count]
    else:
        bound = np.partition(row, row.size - count)[row.size - count]
    ids = np.flatnonzero(row >= bound)
    return ids[np.argsort(-row[ids], kind="stable")[:count]]


def _norm(row: Float32s) -> float:
    """Logarithm of the sum of the exponentials."""
    peak = row.max()
    return float(peak) + float(np.log(np.exp(row - peak).sum(dtype=np.float64)))


def _top(row: Float32s, norm: float, count: int) -> tuple[tuple[int, float], ...]:
    """The `count` likeliest tokens with their log-probabilities."""
    return tuple((int(i), float(row[i]) - norm) for i in _likeliest(row, count)) if count else ()

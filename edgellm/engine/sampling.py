"""Choosing tokens from logits, for a whole batch at once, in numpy.

The order is that of vLLM and transformers: repetition, presence and frequency penalties, logit bias,
banned end tokens; then temperature, top-k, top-p, min-p. Each row depends on that row alone, so that a
request gets the same tokens in any batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence as SequenceOf

import numpy as np
from numpy.typing import NDArray

from edgellm.backends.executor import Float32s
from edgellm.backends.params import SamplingParams
from edgellm.engine.generation import TokenLogprob
from edgellm.engine.sequence import Sequence

Ids = NDArray[np.int64]
Weights = NDArray[np.float64]

CANDIDATES = 512
"""Likeliest tokens looked at first; a wider sort happens only where these do not cover top-p."""


def choose(logits: Float32s, sequences: SequenceOf[Sequence]) -> list[tuple[int, TokenLogprob | None]]:
    """The next token of each sequence, with its log-probability where asked for.

    Args:
        logits: float32[r, vocab], row i for sequences[i]; changed in place.

    Log-probabilities are those of the model after penalties, before temperature and truncation.
    """
    for row, sequence in zip(logits, sequences, strict=True):
        _adjust(row, sequence)
    best = logits.argmax(axis=1)
    chosen: list[tuple[int, TokenLogprob | None]] = []
    for i, sequence in enumerate(sequences):
        token = int(best[i]) if sequence.rng is None else _draw(logits[i], sequence, sequence.rng)
        wanted = sequence.params.logprobs
        chosen.append((token, None if wanted is None else _logprob(logits[i], token, wanted)))
    return chosen


def _adjust(row: Float32s, sequence: Sequence) -> None:
    """Penalties, biases and banned tokens, in place."""
    params = sequence.params
    if params.repetition_penalty != 1.0:
        seen = np.fromiter(set(sequence.tokens), np.int64)
        values = row[seen]
        row[seen] = np.where(
            values > 0, values / params.repetition_penalty, values * params.repetition_penalty
        )
    if params.presence_penalty or params.frequency_penalty:
        counts = Counter(sequence.tokens[sequence.prompt_len :])
        answered = np.fromiter(counts.keys(), np.int64, len(counts))
        times = np.fromiter(counts.values(), np.float32, len(counts))
        row[answered] -= np.float32(params.presence_penalty) + np.float32(params.frequency_penalty) * times
    for token, bias in params.logit_bias.items():
        row[token] += np.float32(bias)
    if sequence.new_tokens < params.min_tokens:
        row[list(sequence.end_ids | set(params.stop_token_ids))] = -np.inf


def _draw(row: Float32s, sequence: Sequence, rng: np.random.Generator) -> int:
    """One token drawn from the truncated distribution: its cumulative sum inverted at one uniform number."""
    params = sequence.params
    scaled = row / np.float32(params.temperature)
    scaled -= scaled.max()
    ids, weights = _truncate(scaled, params)
    if params.min_p > 0:  # the likeliest token has the weight 1
        weights = np.where(weights >= params.min_p, weights, 0.0)
    cumulative = np.cumsum(weights)
    at = int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))
    return int(ids[min(at, len(ids) - 1)])


def _truncate(scaled: Float32s, params: SamplingParams) -> tuple[Ids, Weights]:
    """Apply top-k, then top-p: (token ids, unnormalised weights), likeliest first where truncated."""
    size = scaled.size
    count = min(params.top_k or size, size)
    if count == size and params.top_p == 1.0:
        return np.arange(size), np.exp(scaled.astype(np.float64))
    ids = _likeliest(scaled, min(count, CANDIDATES))
    weights = np.exp(scaled[ids].astype(np.float64))
    if params.top_p == 1.0 and len(ids) == count:
        return ids, weights
    # Top-p counts the mass that top-k left, and keeps the token that crosses the threshold.
    mass = weights.sum() if len(ids) == count else float(np.exp(scaled.astype(np.float64)).sum())
    if len(ids) < count and (params.top_k or weights.sum() < params.top_p * mass):
        ids = _likeliest(scaled, count)
        weights = np.exp(scaled[ids].astype(np.float64))
        mass = weights.sum()
    if params.top_p < 1.0:
        keep = int(np.searchsorted(np.cumsum(weights), params.top_p * mass)) + 1
        ids, weights = ids[:keep], weights[:keep]
    return ids, weights


def _likeliest(row: Float32s, count: int) -> Ids:
    """Indices of the `count` largest entries, largest first; ties by the lower index."""
    if count < row.size:
        ids = np.argpartition(row, row.size - count)[row.size - count :]
        ids.sort()
    else:
        ids = np.arange(row.size)
    return ids[np.argsort(-row[ids], kind="stable")]


def _logprob(row: Float32s, token: int, top: int) -> TokenLogprob:
    wide = row.astype(np.float64)
    peak = wide.max()
    norm = peak + np.log(np.exp(wide - peak).sum())
    likeliest = tuple((int(i), float(wide[i] - norm)) for i in _likeliest(row, top)) if top else ()
    return TokenLogprob(token, float(wide[token] - norm), likeliest)

"""The first token after a prompt of one token, drawn here when a request has a seed.

CTranslate2's generator is seeded in a callback one step before the first sampled token; such a prompt has no
step before it. Same order as CTranslate2: repetition penalty, banned end tokens; top-k, temperature, top-p.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgellm.backends.params import SamplingParams

Float32s = NDArray[np.float32]


def draw_first_token(
    logits: Float32s, prompt_token: int, params: SamplingParams, end_ids: Sequence[int], seed: int
) -> tuple[int, float | None]:
    """One token and, if asked for, its log-probability before temperature and truncation.

    Args:
        logits: float32[vocab], after the prompt's only token. params: not greedy.
    """
    scores = logits.astype(np.float64)
    if params.repetition_penalty != 1:
        seen = scores[prompt_token]
        scores[prompt_token] = (
            seen / params.repetition_penalty if seen > 0 else seen * params.repetition_penalty
        )
    if params.min_tokens:
        scores[list(end_ids)] = -np.inf
    likeliest = np.argsort(-scores, kind="stable")
    kept = likeliest[: params.top_k or None]
    weights = np.exp((scores[kept] - scores[kept[0]]) / max(params.temperature, 1e-4))
    weights /= weights.sum()
    if params.top_p < 1:
        # The token that crosses the threshold stays in.
        count = int(np.searchsorted(np.cumsum(weights), params.top_p)) + 1
        kept, weights = kept[:count], weights[:count] / weights[:count].sum()
    token = int(
        kept[
            np.searchsorted(np.cumsum(weights), np.random.default_rng(seed).random()).clip(max=len(kept) - 1)
        ]
    )
    if params.logprobs is None:
        return token, None
    peak = scores.max()
    return token, float(scores[token] - peak - np.log(np.exp(scores - peak).sum()))

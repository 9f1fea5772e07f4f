"""A step's tokens as work items for the attention kernel."""

from __future__ import annotations

import numpy as np

from edgellm.backends.executor import Int32s, StepInput
from edgellm.compile.heads import BLOCK_SIZE, SPAN, Heads

_UNEVEN = 4
"""Units of work a thread from which on it does not matter that they cannot be shared evenly."""


def slots(step: StepInput) -> Int32s:
    """int32[n]: block * 16 + place in it, where each token's key and value go."""
    sequence = np.repeat(np.arange(len(step.context_lens)), np.diff(step.seq_starts))
    blocks = step.block_tables[sequence, step.positions // BLOCK_SIZE]
    return (blocks * BLOCK_SIZE + step.positions % BLOCK_SIZE).astype(np.int32)


def items(step: StepInput, heads: Heads, threads: int) -> Int32s:
    """int32[t, 5]: first token, number of tokens, sequence, first position, span (see `kernels.attention`).

    They are ordered so that `threads` equal shares of them, cut in order, have much the same work. Where they
    are too few for that, each is split into its spans.
    """
    tokens = heads.item_tokens
    counts = np.diff(step.seq_starts)
    pieces = -(-counts // tokens)
    sequence = np.repeat(np.arange(len(counts)), pieces)
    number = np.arange(len(sequence)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    first = step.seq_starts[sequence] + number * tokens
    size = np.minimum(tokens, counts[sequence] - number * tokens)
    position = step.positions[first]
    result = np.stack([first, size, sequence, position, np.full_like(first, -1)], axis=1).astype(np.int32)
    units = len(result) * heads.units
    if units % threads and units < threads * _UNEVEN:
        spans = -(-(position + size) // SPAN)
        if spans.max() > 1:
            result = np.repeat(result, spans, axis=0)
            result[:, 4] = np.arange(len(result)) - np.repeat(np.cumsum(spans) - spans, spans)
            return result
    if len(result) > threads > 1:
        costly = np.argsort(-(result[:, 3] + result[:, 1]), kind="stable")
        result = np.concatenate([result[costly[share::threads]] for share in range(threads)])
    return result

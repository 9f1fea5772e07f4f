"""A step's tokens as work items for the attention kernel."""

from __future__ import annotations

import numpy as np

from edgellm.backends.executor import Int32s, StepInput

BLOCK_SIZE = 16
"""Tokens in a block of the cache; the kernels are written for it."""


def slots(step: StepInput) -> Int32s:
    """int32[n]: block * 16 + place in it, where each token's key and value go."""
    sequence = np.repeat(np.arange(len(step.context_lens)), np.diff(step.seq_starts))
    blocks = step.block_tables[sequence, step.positions // BLOCK_SIZE]
    return (blocks * BLOCK_SIZE + step.positions % BLOCK_SIZE).astype(np.int32)


def items(step: StepInput, tokens: int, threads: int) -> Int32s:
    """int32[t, 4]: first token, number of tokens (at most `tokens`), sequence, first position.

    They are ordered so that `threads` equal shares of them, cut in order, have much the same work.
    """
    counts = np.diff(step.seq_starts)
    pieces = -(-counts // tokens)
    sequence = np.repeat(np.arange(len(counts)), pieces)
    number = np.arange(len(sequence)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    first = step.seq_starts[sequence] + number * tokens
    size = np.minimum(tokens, counts[sequence] - number * tokens)
    result = np.stack([first, size, sequence, step.positions[first]], axis=1).astype(np.int32)
    if len(result) > threads > 1:
        costly = np.argsort(-(result[:, 3] + result[:, 1]), kind="stable")
        result = np.concatenate([result[costly[share::threads]] for share in range(threads)])
    return result

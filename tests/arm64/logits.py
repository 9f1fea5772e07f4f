"""Logits of three steps of a bundle, two of them mixed: `python -m tests.arm64.logits BUNDLE OUT.npy`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from edgellm.backends import get_backend
from edgellm.backends.base import LoadOptions
from edgellm.backends.executor import StepInput
from edgellm.bundle import Bundle

STEPS = (
    # For each sequence of a step: its number, tokens before, tokens of the step.
    ((0, 0, 21),),
    ((0, 21, 1), (1, 0, 34), (2, 0, 3)),
    ((2, 3, 1), (0, 22, 1), (1, 34, 9)),
)
_BLOCK = 16
_BLOCKS_OF_A_SEQUENCE = 4


def main(bundle: Path, out: Path) -> None:
    opened = Bundle.open(bundle)
    executor = get_backend(opened.manifest.backend).load(opened, LoadOptions(threads=1, max_batch=4))
    assert executor.mode == "step" and executor.limits.block_size == _BLOCK
    tokens = np.random.default_rng(3).integers(5, 400, (3, _BLOCK * _BLOCKS_OF_A_SEQUENCE)).astype(np.int32)
    tables = np.random.default_rng(4).permutation(3 * _BLOCKS_OF_A_SEQUENCE).reshape(3, -1).astype(np.int32)
    rows = []
    for step in STEPS:
        spans = [(number, slice(start, start + count)) for number, start, count in step]
        ids = np.concatenate([tokens[number, span] for number, span in spans])
        rows.append(
            executor.step(
                StepInput(
                    ids,
                    np.concatenate([np.arange(s.start, s.stop, dtype=np.int32) for _, s in spans]),
                    np.cumsum([0, *(count for _, _, count in step)]).astype(np.int32),
                    np.array([span.stop for _, span in spans], np.int32),
                    tables[[number for number, _ in spans]],
                    np.arange(len(ids), dtype=np.int32),
                )
            ).copy()
        )
    np.save(out, np.concatenate(rows))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

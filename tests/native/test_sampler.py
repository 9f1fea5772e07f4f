"""The C core draws tokens from the distribution that the settings describe, and from no others."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

DRAWS = 20_000


def expected(
    logits: NDArray[np.float32], temperature: float, top_k: int, top_p: float, min_p: float
) -> NDArray[np.float64]:
    """Temperature, then top-k, then top-p of what is left, then min-p."""
    weights = np.exp((logits.astype(np.float64) - logits.max()) / temperature)
    order = np.argsort(-weights, kind="stable")
    kept = order[: top_k or len(order)]
    if top_p < 1:
        sums = np.cumsum(weights[kept])
        kept = kept[: int(np.searchsorted(sums, top_p * sums[-1])) + 1]
    kept = kept[weights[kept] >= min_p]
    found = np.zeros(len(logits))
    found[kept] = weights[kept] / weights[kept].sum()
    return found


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p", "min_p"),
    [
        (1.0, 0, 1.0, 0.0), (0.7, 0, 0.9, 0.0), (1.5, 20, 1.0, 0.0), (1.0, 20, 0.6, 0.0), (1.0, 0, 1.0, 0.05),
        (2.0, 40, 0.95, 0.1), (0.3, 0, 0.5, 0.2), (1.0, 1000, 1.0, 0.0), (0.01, 0, 1.0, 0.0),
    ],
)  # fmt: skip
def test_distribution(
    programs: dict[str, Path], temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    logits = (np.random.RandomState(3).standard_normal(300) * 2).astype(np.float32)
    settings = [str(one) for one in (DRAWS, temperature, top_k, top_p, min_p, 11)]
    run = subprocess.run([programs["sample"], *settings], input=logits.tobytes(), capture_output=True)
    assert run.returncode == 0
    drawn = np.array([int(one) for one in run.stdout.split()])
    assert drawn.sum() == DRAWS
    wanted = expected(logits, temperature, top_k, top_p, min_p)
    assert not drawn[wanted == 0].any()
    assert drawn[wanted > 30 / DRAWS].all()
    # Five standard deviations of a count, and half a count for rounding.
    assert (np.abs(drawn - wanted * DRAWS) <= 0.5 + 5 * np.sqrt(wanted * DRAWS)).all()


@pytest.mark.parametrize("place", [0, 7, 39])
@pytest.mark.parametrize("settings", [("0", "0", "1"), ("1", "0", "1"), ("1", "5", "1"), ("1", "0", "0.5")])
def test_logits_that_are_none_give_no_token(
    programs: dict[str, Path], place: int, settings: tuple[str, str, str]
) -> None:
    """A device that is out of order does not go on as if it were not."""
    temperature, top_k, top_p = settings
    for value, good in ((np.nan, False), (np.inf, False), (-np.inf, True)):
        logits = np.arange(40, dtype=np.float32)
        logits[place] = value
        command = [programs["sample"], "5", temperature, top_k, top_p, "0", "1"]
        run = subprocess.run(command, input=logits.tobytes(), capture_output=True)
        assert (run.returncode == 0) == good
    logits[:] = -np.inf
    assert subprocess.run(command, input=logits.tobytes(), capture_output=True).returncode == 1


def test_greedy_takes_the_first_of_equal_ones(programs: dict[str, Path]) -> None:
    logits = np.zeros(40, np.float32)
    logits[[7, 9]] = 3
    for settings in (["5", "0", "0", "1", "0", "1"], ["5", "1", "1", "1", "0", "1"]):
        run = subprocess.run([programs["sample"], *settings], input=logits.tobytes(), capture_output=True)
        drawn = [int(one) for one in run.stdout.split()]
        assert drawn[7] == 5 and sum(drawn) == 5

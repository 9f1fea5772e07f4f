"""The largest logits and the sums of their exponentials, against numpy."""

from __future__ import annotations

import re

import numpy as np
import pytest

from edgellm.compile.gpu.export import export
from edgellm.compile.gpu.top import TOP, chunks, last_top, top_of_candidates, top_of_logits
from tests.compile.gpu.cases import normal
from tests.compile.gpu.runner import Runner


@pytest.mark.parametrize("vocabulary", [300, 2048, 5000, 68_000])
def test_top(device: Runner, vocabulary: int, rng: np.random.Generator) -> None:
    rows, row = 3, -(-vocabulary // 64) * 64
    logits = np.full((rows, row), 1e9, np.float32)  # what is beyond the vocabulary does not count
    logits[:, :vocabulary] = np.round(normal(rng, rows, vocabulary) * 8, 1)  # with many that are equal
    logits[1] -= 1000
    sizes, parts = {"r": rows}, chunks(vocabulary)
    count = parts * TOP
    values, ids = np.zeros((rows, count), np.float32), np.zeros((rows, count), np.int32)
    sums = np.zeros((rows, parts, 2), np.float32)
    values, ids, sums = device.run(top_of_logits(vocabulary, row, "top"), [logits, values, ids, sums], sizes)
    while count > 2048:
        left = chunks(count) * TOP
        arrays = [values, ids, np.zeros((rows, left), np.float32), np.zeros((rows, left), np.int32)]
        values, ids = device.run(top_of_candidates(count, "top_more"), arrays, sizes)
        count = left
    arrays = [values, ids, sums, np.zeros((rows, TOP), np.float32), np.zeros((rows, TOP), np.int32)]
    kernel = last_top(count, parts, "top_last")
    top, top_ids, log_sums = device.run(kernel, [*arrays, np.zeros(rows, np.float32)], sizes)
    counted = logits[:, :vocabulary]
    order = np.argsort(-counted, axis=1, kind="stable")[:, :TOP]
    assert np.array_equal(top_ids, order)
    assert np.array_equal(top, np.take_along_axis(counted, order, axis=1))
    most = counted.max(1)
    want = most + np.log(np.exp(counted.astype(np.float64) - most[:, None]).sum(1))
    assert np.allclose(log_sums, want, rtol=0, atol=1e-3)


def test_constants_are_in_range() -> None:
    """Browsers refuse a literal beyond the largest float32, even one that would be rounded to it."""
    text = export(top_of_logits(300, 320, "top"), "wgsl").text
    found = [float(one) for one in re.findall(r"[\d.]+e[+-]\d+(?=f)", text)]
    largest = float(np.finfo(np.float32).max)
    assert max(found) <= largest
    assert np.float32(max(found)) == largest

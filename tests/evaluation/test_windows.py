"""Cutting documents into windows."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgellm.evaluation.documents import Document
from edgellm.evaluation.windows import smallest, windows


@given(st.integers(1, 300), st.integers(0, 2), st.integers(0, 80))
def test_each_token_is_scored_once_and_from_enough_before_it(length: int, prefixed: int, more: int) -> None:
    ids = np.arange(100, 100 + length, dtype=np.int32)
    document = Document(ids, tuple(range(prefixed)), 1)
    size = smallest(document) + more
    if not document.scored:
        return
    cut = list(windows(document, size))
    scored = np.concatenate([window.targets for window in cut])
    assert scored.tolist() == ids[len(ids) - document.scored :].tolist()
    for number, window in enumerate(cut):
        assert len(window.token_ids) <= size and window.first >= 1 and len(window.targets)
        assert window.token_ids[:prefixed].tolist() == list(range(prefixed))
        body = window.token_ids[prefixed:]
        assert (np.diff(body) == 1).all(), "the text is in order and without gaps"
        before = window.first - prefixed
        if number:
            assert before >= (size - prefixed) // 2 and len(window.token_ids) == size
        else:
            assert before == (0 if prefixed else 1) and body[0] == 100


def test_a_long_text_costs_two_tokens_for_each_scored_one() -> None:
    cut = list(windows(Document(np.zeros(5000, np.int32), (1,), 1), 101))
    assert [len(window.targets) for window in cut[:4]] == [100, 50, 50, 50]
    assert sum(len(window.token_ids) for window in cut) < 2.05 * 5000

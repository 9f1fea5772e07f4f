"""How a document is cut into windows, so that every token is predicted once and from enough before it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgellm.backends.executor import Int32s
from edgellm.evaluation.documents import Document


@dataclass(frozen=True)
class Window:
    """One forward pass.

    Attributes:
        token_ids: int32[n], the prefix included.
        first: the first token that is scored, at least 1; the others are there to predict it from.
    """

    token_ids: Int32s
    first: int

    @property
    def targets(self) -> Int32s:
        """int32[n - first], the tokens that are scored."""
        return self.token_ids[self.first :]


def smallest(document: Document) -> int:
    """Tokens that a window for this document must hold at least."""
    return len(document.prefix) + 2


def windows(document: Document, size: int) -> Iterator[Window]:
    """Windows of at most `size` tokens that overlap by half.

    The first scores all its tokens. Each later one begins half a window further on and scores its second
    half, whose tokens so have at least half a window before them; the last one is moved back until it is
    full. Every window begins with the document's prefix, since some models do badly without.
    """
    ids, prefix = document.token_ids, np.array(document.prefix, np.int32)
    room = size - len(prefix)
    step = room // 2
    end = min(len(ids), room)
    yield Window(np.concatenate([prefix, ids[:end]]), max(1, len(prefix)))
    while end < len(ids):
        scored, end = end, min(len(ids), end + step)
        start = end - room
        yield Window(np.concatenate([prefix, ids[start:end]]), len(prefix) + scored - start)

"""From token ids to text as it arrives: no broken UTF-8, no text past a stop string."""

from __future__ import annotations

from collections.abc import Callable, Sequence

REPLACEMENT = "\ufffd"

MAX_PENDING = 32
"""Tokens held back at most while a character is incomplete; UTF-8 needs 4 bytes, so more is not text."""


class IncrementalDetokenizer:
    """Turns tokens into text piece by piece, so that the pieces add up to the decoded whole.

    A token can end in the middle of a character, and some decoders strip a space at the start of a text.
    So each new token is decoded together with the tokens of the piece before it, and what that piece
    gave alone is cut off; text that ends in U+FFFD waits for the rest of its character.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._context: list[int] = []
        """Tokens of the last emitted piece."""
        self._context_text = ""
        self._pending: list[int] = []

    def add(self, token_id: int) -> str:
        """Text that became complete with this token; "" while a character is incomplete."""
        self._pending.append(token_id)
        text = self._decode(self._context + self._pending)
        if text.endswith(REPLACEMENT) and len(self._pending) < MAX_PENDING:
            return ""
        return self._emit(text)

    def finish(self) -> str:
        """What is still held back, broken characters included."""
        if not self._pending:
            return ""
        return self._emit(self._decode(self._context + self._pending))

    def _emit(self, text: str) -> str:
        piece = text[len(self._context_text) :]
        # A token that gives no text yet (a leading space, a special token) may matter to the next one.
        if piece or len(self._pending) >= MAX_PENDING:
            self._context, self._pending = self._pending, []
            self._context_text = self._decode(self._context)
        return piece


class StopMatcher:
    """Finds the first of several stop texts in a stream, also when it is cut anywhere by token borders."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""

    def add(self, text: str) -> tuple[str, bool]:
        """(text that cannot be part of a stop, whether a stop was found). After True, the stream is over."""
        if not self._stops:
            return text, False
        self._held += text
        found = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            return self._held[: min(found)], True
        keep = max(_overlap(self._held, stop) for stop in self._stops)
        cut = len(self._held) - keep
        safe, self._held = self._held[:cut], self._held[cut:]
        return safe, False

    def finish(self) -> str:
        """What was held back as the possible start of a stop text."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest proper prefix of `stop` that `text` ends with."""
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0

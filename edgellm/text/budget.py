"""What one rendering of a chat template may use: a size for each value, work and processor time in all."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from edgellm.errors import TemplateError

MAX_VALUE = 4 << 20
"""Largest value a template may make: characters of its texts, plus NODE for each item, however deep."""
NODE = 4
MAX_WORK = 16 << 20
"""Units of work of one rendering; a unit is a visited item, a turn of a loop, or 8 characters made."""
MAX_SECONDS = 2.0
"""Processor time of the rendering thread. Not wall time: a busy machine must not refuse a good template."""
MAX_INT_BITS = 60
"""Numbers beyond can be chosen to have equal hashes, which makes dictionaries slow."""
MAX_KEYS = 10_000
"""Items a template may put into a dictionary or compare by hash at once, for the same reason."""
_CHARS_PER_UNIT = 8
_CLOCK_EVERY = 16


class Budget:
    """Counts down while a template runs; `spend` and `check` raise TemplateError once it is used up."""

    __slots__ = ("_deadline", "_turns", "_work")

    def __init__(self) -> None:
        self._work = MAX_WORK
        self._turns = 0
        self._deadline = time.thread_time() + MAX_SECONDS

    def spend(self, units: int) -> None:
        """Take `units` of work, and look at the clock now and then."""
        self._work -= units
        self._turns += 1
        if self._work < 0:
            raise TemplateError("the chat template does too much work (an endless loop?); it was stopped")
        if self._turns % _CLOCK_EVERY == 0 and time.thread_time() > self._deadline:
            raise TemplateError(
                f"the chat template ran for {MAX_SECONDS:g} seconds of processor time; it was stopped"
            )

    def check(self, value: Any) -> Any:
        """`value`, which a template just made, if it is not too large."""
        if isinstance(value, str):
            refuse_larger(len(value))
            self.spend(1 + len(value) // _CHARS_PER_UNIT)
        elif isinstance(value, int):
            if value.bit_length() > MAX_INT_BITS:
                raise TemplateError("the chat template computes with absurdly large numbers; it was stopped")
            self.spend(1)
        elif isinstance(value, (list, tuple, dict, set, frozenset)):
            self._walk(value)
        else:
            self.spend(1)
        return value

    def _walk(self, value: Any) -> None:
        """Size of a nested value, each part counted wherever it is reachable: what printing it would cost."""
        size = nodes = 0
        stack = [value]
        while stack:
            item = stack.pop()
            nodes += 1
            size += NODE
            if isinstance(item, str):
                size += len(item)
            elif isinstance(item, dict):
                stack.extend(item)
                stack.extend(item.values())
            elif isinstance(item, (list, tuple, set, frozenset)):
                stack.extend(item)
            if size + NODE * len(stack) > MAX_VALUE:
                refuse_larger(size + NODE * len(stack))
        self.spend(nodes)


def refuse_larger(size: int) -> None:
    """TemplateError if `size` is beyond MAX_VALUE."""
    if size > MAX_VALUE:
        raise TemplateError(
            f"the chat template or its messages make a value larger than {MAX_VALUE:,} characters"
        )


_active = threading.local()


def budget() -> Budget:
    """The budget of the rendering that runs in this thread."""
    current = getattr(_active, "budget", None)
    return current if isinstance(current, Budget) else Budget()


@contextmanager
def fresh_budget() -> Iterator[Budget]:
    """Run the body under a new budget."""
    outer = getattr(_active, "budget", None)
    _active.budget = Budget()
    try:
        yield _active.budget
    finally:
        _active.budget = outer


def plain(value: Any, depth: int = 0) -> Any:
    """A copy of JSON-like `value` in plain types: a template meets no method of the caller's objects."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if depth > 64:
        raise TemplateError("the messages are nested too deeply")
    if isinstance(value, Mapping):
        return {str(key): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, depth + 1) for item in value]
    if isinstance(value, str):
        return str.__str__(value)
    raise TemplateError(
        f"the messages hold a {type(value).__name__}; use texts, numbers, lists and dictionaries"
    )

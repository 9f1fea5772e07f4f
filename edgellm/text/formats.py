"""Format strings of chat templates, `%` and `str.format`, bounded: a width can ask for any memory."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from string import Formatter
from typing import Any

from edgellm.errors import TemplateError
from edgellm.text.budget import NODE, refuse_larger

_WIDE = re.compile(r"\d{4,}|\*")
_FLAGS = re.compile(r"[^a-zA-Z%]*")


def format_percent(pattern: str, values: Any) -> str:
    """`pattern % values`; widths and precisions beyond 999, or given by a value, are refused."""
    count = 0
    for specifier in _specifiers(pattern):
        count += 1
        if _WIDE.search(specifier):
            raise TemplateError("the chat template formats with a width beyond 999")
    refuse_larger(len(pattern) + count * (_size(values) + 999))
    text: str = pattern % values
    return text


def check_braces(pattern: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Refuse what `pattern.format(*args, **kwargs)` must not do: attributes, items, wide or nested fields."""
    fields = 0
    for _, field, spec, _ in Formatter().parse(pattern):
        if field is None:
            continue
        fields += 1
        if field and not field.isidentifier() and not field.isdecimal():
            raise TemplateError(
                f"the chat template formats the field {field[:40]!r}; plain names are allowed"
            )
        if spec and ("{" in spec or _WIDE.search(spec)):
            raise TemplateError("the chat template formats with a width beyond 999")
    refuse_larger(len(pattern) + fields * (_size(args) + _size(kwargs) + 999))


def _specifiers(pattern: str) -> Iterator[str]:
    """Flags, width and precision of each conversion: what stands between `%`, or `%(name)`, and a letter."""
    at = pattern.find("%")
    while at >= 0:
        at += 1
        if pattern[at : at + 1] == "(":
            at = _after_name(pattern, at)
        match = _FLAGS.match(pattern, at)
        assert match is not None  # it also matches nothing
        yield match[0]
        at = pattern.find("%", match.end() + 1)


def _after_name(pattern: str, at: int) -> int:
    """Where the name in parentheses that opens at `at` has ended; names may hold parentheses in pairs."""
    depth = 0
    for match in re.compile(r"[()]").finditer(pattern, at):
        depth += 1 if match[0] == "(" else -1
        if depth == 0:
            return match.end()
    raise TemplateError("the chat template formats a name without its closing parenthesis")


def _size(value: Any) -> int:
    """What printing `value` makes, at most. Nested values are bounded already, where they were made."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(_size(key) + _size(item) + NODE for key, item in value.items())
    if isinstance(value, (list, tuple, set, frozenset)):
        return sum(_size(item) + NODE for item in value)
    return 64

"""Format strings of chat templates, `%` and `str.format`, bounded: a width can ask for any memory."""

from __future__ import annotations

import re
from collections.abc import Mapping
from string import Formatter
from typing import Any

from edgellm.errors import TemplateError
from edgellm.text.budget import NODE, refuse_larger

_WIDE = re.compile(r"\d{4,}|\*")


def format_percent(pattern: str, values: Any) -> str:
    """`pattern % values`; widths and precisions beyond 999, or given by a value, are refused."""
    for specifier in re.findall(r"%[^a-zA-Z%]*(?:\([^)]*\)[^a-zA-Z%]*)?", pattern):
        if _WIDE.search(re.sub(r"\([^)]*\)", "", specifier)):
            raise TemplateError("the chat template formats with a width beyond 999")
    refuse_larger(len(pattern) + pattern.count("%") * (_size(values) + 999))
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
                f"the chat template formats the field {field[:40]!r}; only plain names are allowed"
            )
        if spec and ("{" in spec or _WIDE.search(spec)):
            raise TemplateError("the chat template formats with a width beyond 999")
    refuse_larger(len(pattern) + fields * (_size(args) + _size(kwargs) + 999))


def _size(value: Any) -> int:
    """What printing `value` makes, at most. Nested values are bounded already, where they were made."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(_size(key) + _size(item) + NODE for key, item in value.items())
    if isinstance(value, (list, tuple, set, frozenset)):
        return sum(_size(item) + NODE for item in value)
    return 4096 if isinstance(value, int) else 64

"""The filters a chat template may use: Jinja's own where harmless, bounded ones where they are not."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable, Iterable
from typing import Any

from jinja2 import Environment, pass_environment
from jinja2.filters import FILTERS, make_attrgetter
from jinja2.tests import TESTS
from markupsafe import escape

from edgellm.errors import TemplateError
from edgellm.text.budget import MAX_KEYS, MAX_VALUE, NODE, budget, refuse_larger
from edgellm.text.formats import format_percent

MAX_WIDTH = 10_000
Function = Callable[..., Any]

# Left out: what makes HTML (urlize, xmlattr, striptags), is random, or multiplies texts (wordwrap, pprint).
_JINJA = (
    "abs attr batch capitalize center count d default dictsort first float groupby int items "
    "last length lower map max min reject rejectattr reverse round select selectattr slice "
    "sort string title truncate upper urlencode wordcount"
)
_BOUNDED_NUMBERS = {"batch": MAX_WIDTH, "center": MAX_WIDTH, "slice": MAX_WIDTH, "round": 100}


def filters() -> dict[str, Function]:
    """Name -> filter."""
    own: dict[str, Function] = {
        "e": _escape,
        "escape": _escape,
        "format": _format,
        "indent": _indent,
        "join": _join,
        "replace": _replace,
        "list": _list,
        "safe": str,
        "sum": _sum,
        "tojson": tojson,
        "trim": _trim,
        "unique": _unique,
    }
    own |= {name: FILTERS[name] for name in _JINJA.split()}
    return {name: _guarded(function, _BOUNDED_NUMBERS.get(name)) for name, function in own.items()}


def tests() -> dict[str, Function]:
    """Name -> test."""
    return {name: _guarded(function, None) for name, function in TESTS.items()}


def join(separator: str, items: Iterable[Any]) -> str:
    """`separator.join(items)`, stopped as soon as the result grows too large."""
    texts: list[str] = []
    size = 0
    for item in items:
        budget().spend(1)
        text = str(item)
        size += len(text) + len(separator)
        refuse_larger(size)
        texts.append(text)
    return separator.join(texts)


def replace(text: str, old: str, new: str, count: int = -1) -> str:
    """`text.replace`, refused if the result would be too large."""
    found = text.count(old)
    times = found if count < 0 else min(found, count)
    refuse_larger(len(text) + times * max(0, len(new) - len(old)))
    return text.replace(old, new, count)


def tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as chat templates expect it: without HTML escapes; parameters as in `json.dumps`."""
    if indent is not None and not (isinstance(indent, int) and 0 <= indent <= 32):
        raise TemplateError("the chat template asks tojson for an indent beyond 32")
    if separators is not None and not all(isinstance(s, str) and len(s) <= 16 for s in separators):
        raise TemplateError("the chat template asks tojson for overlong separators")
    encoder = json.JSONEncoder(
        ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
    # Indentation can multiply the size, by the depth; without it a value grows by a small factor only.
    return encoder.encode(value) if indent is None else join("", encoder.iterencode(value))


def _guarded(function: Any, largest: int | None) -> Function:
    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        if largest is not None:
            for argument in (*args[1:], *kwargs.values()):
                if isinstance(argument, int) and abs(argument) > largest:
                    raise TemplateError(f"the chat template gives a filter a number beyond {largest:,}")
        result = function(*args, **kwargs)
        if any(result is argument for argument in args):
            budget().spend(1)
            return result
        return budget().check(result)

    return guarded


def _escape(value: Any) -> str:
    return str(escape(value))


def _format(value: Any, *args: Any, **kwargs: Any) -> str:
    return format_percent(str(value), kwargs or args)


def _indent(value: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    text = str(value)
    if isinstance(width, int) and not 0 <= width <= MAX_WIDTH:
        raise TemplateError(f"the chat template indents by more than {MAX_WIDTH:,}")
    length = width if isinstance(width, int) else len(width)
    refuse_larger(len(text) + (len(text.splitlines()) + 1) * length)
    result: str = FILTERS["indent"](text, width, first, blank)
    return result


@pass_environment
def _join(
    environment: Environment, value: Iterable[Any], d: str = "", attribute: str | int | None = None
) -> str:
    if attribute is not None:
        value = map(make_attrgetter(environment, attribute), value)
    return join(str(d), value)


def _list(value: Iterable[Any]) -> list[Any]:
    items = list(itertools.islice(value, MAX_VALUE // NODE + 1))
    refuse_larger(len(items) * NODE)
    return items


def _replace(value: Any, old: Any, new: Any, count: int | None = None) -> str:
    return replace(str(value), str(old), str(new), -1 if count is None else count)


@pass_environment
def _sum(
    environment: Environment, value: Iterable[Any], attribute: str | int | None = None, start: float = 0
) -> float:
    if attribute is not None:
        value = map(make_attrgetter(environment, attribute), value)
    total = start
    for item in value:
        if not isinstance(item, (int, float)) or not isinstance(total, (int, float)):
            raise TemplateError("the chat template sums something that is not a number")
        total = budget().check(total + item)
    return total


def _trim(value: Any, chars: str | None = None) -> str:
    if chars is not None and len(chars) > 256:  # takes time with the product of both lengths
        raise TemplateError("the chat template trims more than 256 characters")
    return str(value).strip(chars)


@pass_environment
def _unique(environment: Environment, value: Iterable[Any], *args: Any, **kwargs: Any) -> list[Any]:
    items = list(itertools.islice(value, MAX_KEYS + 1))
    if len(items) > MAX_KEYS:
        raise TemplateError(f"the chat template compares more than {MAX_KEYS:,} items")
    return list(FILTERS["unique"](environment, items, *args, **kwargs))

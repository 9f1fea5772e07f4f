"""The Jinja environment of chat templates: sandboxed, and bounded in time and memory.

A template comes with a checkpoint, so it may be hostile. Jinja's own sandbox keeps it away from attributes
that lead out. What remains is waste, and every way to waste passes through a counted place:

- each turn of a loop, each comparison and each call costs work (they are rewritten in the syntax tree);
- each value that an operator, filter, call, literal, slice or block makes is measured when it is made. None
  can change later and outgrow that, except a namespace, which is printed without its content;
- methods and filters whose result can be much larger than their arguments are refused beforehand.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.lexer import Token, TokenStream
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range
from jinja2.utils import Cycler, Joiner, Namespace
from jinja2.visitor import NodeTransformer

from edgellm.errors import TemplateError
from edgellm.text.budget import MAX_INT_BITS, MAX_KEYS, budget, refuse_larger
from edgellm.text.filters import filters, join, replace, tests
from edgellm.text.formats import check_braces, format_percent

MAX_TOKENS = 50_000
MAX_NEEDLE = 256
_SLOW_WITH_LONG = ("strip", "lstrip", "rstrip", "rfind", "rindex", "rsplit", "rpartition")
"""Methods that take time with the product of both lengths."""

_STR_METHODS = (
    "capitalize casefold center count endswith find format index isalnum "
    "isalpha isascii isdecimal isdigit isidentifier islower isnumeric isprintable isspace "
    "istitle isupper join ljust lower lstrip partition removeprefix removesuffix replace rfind rindex rjust "
    "rpartition rsplit rstrip split splitlines startswith strip swapcase title upper zfill"
)
_METHODS: tuple[tuple[Any, frozenset[str]], ...] = (
    (str, frozenset(_STR_METHODS.split())),
    (dict, frozenset({"copy", "get", "items", "keys", "values"})),
    (list | tuple, frozenset({"copy", "count", "index"})),
    (int | float | bytes | set | frozenset | range | type, frozenset()),
)


class TemplateNamespace(Namespace):
    """`namespace()`: its content can change, so it is not printed, and no name can reach into Python."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # `self` must stay free as a name
        self, *rest = args
        content = dict(*rest, **kwargs)
        for name in content:
            _check_name(name)
        Namespace.__init__(self, content)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        Namespace.__setitem__(self, name, value)

    def __repr__(self) -> str:
        return "<namespace>"


class SandboxEnvironment(ImmutableSandboxedEnvironment):
    """See the module's docstring."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,
            cache_size=0,
            finalize=_finalize,
            extensions=[loopcontrols, _TokenLimit, _GenerationTag],
        )
        self.filters = dict(filters())
        self.tests = dict(tests())
        self.globals = {
            "cycler": Cycler,
            "joiner": Joiner,
            "dict": _make_dict,
            "namespace": TemplateNamespace,
            "raise_exception": _raise_exception,
            "range": _range,
            "strftime_now": _strftime_now,
        }
        # Used by compiled templates for the text of macros and blocks.
        self.concat = lambda parts: join("", parts)  # type: ignore[method-assign]

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        _Counting().visit(source)
        return super()._generate(source, *args, **kwargs)

    # Called by rewritten templates.

    def count_turn(self) -> bool:
        """One turn of a loop."""
        budget().spend(1)
        return True

    def count_value(self, value: Any) -> Any:
        """A value that was made by a literal or a slice, or is about to be compared."""
        return value

    def concatenate(self, *values: Any) -> str:
        """Jinja's `~`."""
        return join("", values)

    # Called by Jinja.

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        budget().spend(1)
        target = getattr(__obj, "__wrapped__", __obj)
        owner = getattr(target, "__self__", None)
        if isinstance(owner, str):
            # What Jinja hands to functions that take the context, inside loops and blocks.
            kwargs.pop("_loop_vars", None)
            kwargs.pop("_block_vars", None)
            return budget().check(_call_str(owner, target.__name__, __obj, args, kwargs))
        return budget().check(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "%" and isinstance(left, str):
            return budget().check(format_percent(left, right))
        if operator == "*":
            _check_repeat(left, right)
            _check_repeat(right, left)
        if operator == "+" and hasattr(left, "__len__") and hasattr(right, "__len__"):
            refuse_larger(len(left) + len(right))
        if operator == "**" and isinstance(left, int) and isinstance(right, int):
            _check_power(left, right)
        return budget().check(super().call_binop(context, operator, left, right))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        for kind, allowed in _METHODS:
            if isinstance(obj, kind):
                return attr in allowed
        return super().is_safe_attribute(obj, attr, value)


def _check_repeat(sequence: Any, times: Any) -> None:
    if isinstance(sequence, (str, list, tuple)) and isinstance(times, int):
        refuse_larger(len(sequence) * max(0, times))


def _check_power(base: int, exponent: int) -> None:
    if max(abs(exponent), base.bit_length() * abs(exponent)) > MAX_INT_BITS:
        raise TemplateError("the chat template computes with absurdly large numbers; it was stopped")


def _call_str(text: str, method: str, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Call a method of `text`; those that can make much from little are measured first."""
    if method in ("center", "ljust", "rjust", "zfill") and args and isinstance(args[0], int):
        refuse_larger(args[0])
    if method in _SLOW_WITH_LONG and any(isinstance(arg, str) and len(arg) > MAX_NEEDLE for arg in args):
        raise TemplateError(f"the chat template calls {method} with more than {MAX_NEEDLE} characters")
    if method == "join" and len(args) == 1:
        items = list(args[0])
        if not all(isinstance(item, str) for item in items):
            raise TypeError("join needs texts")
        return join(text, items)
    if method == "replace":
        return replace(text, *args, **kwargs)
    if method == "format":
        check_braces(text, args, kwargs)
    return function(*args, **kwargs)


def _make_dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    pairs = args[0] if args else ()
    if not isinstance(pairs, dict):
        pairs = list(itertools.islice(pairs, MAX_KEYS + 1))
        if len(pairs) > MAX_KEYS:
            raise TemplateError(f"the chat template makes a dictionary of more than {MAX_KEYS:,} entries")
    return dict(pairs, **kwargs)


def _range(*args: int) -> range:
    if any(arg.bit_length() > MAX_INT_BITS for arg in args):
        raise TemplateError("the chat template computes with absurdly large numbers; it was stopped")
    return safe_range(*args)


def _finalize(value: Any) -> Any:
    budget().spend(1)
    return value


def _check_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace cannot hold the name {name!r}")


def _raise_exception(message: object) -> None:
    raise TemplateError(f"the chat template refuses these messages: {str(message)[:1000]}")


def _strftime_now(format: str) -> str:
    if not isinstance(format, str) or len(format) > 64 or any(c.isdigit() for c in format):
        raise TemplateError("the chat template asks strftime_now for an unusual format")
    return datetime.now().strftime(format)


class _Counting(NodeTransformer):
    """Rewrites a template's syntax tree so that what no hook of Jinja sees passes through the environment."""

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802 (Jinja's naming)
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(_call("count_turn", [], node.lineno), lineno=node.lineno))
        if node.test is not None:
            node.test = nodes.And(_call("count_turn", [], node.lineno), node.test, lineno=node.lineno)
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Compare:  # noqa: N802
        self.generic_visit(node)
        node.expr = _call("count_value", [node.expr], node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _call("concatenate", node.nodes, node.lineno)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _call("count_value", [node], node.lineno) if isinstance(node.arg, nodes.Slice) else node

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802
        return self._literal(node, node.items)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        return node if node.ctx != "load" else self._literal(node, node.items)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802
        return self._literal(node, [part for pair in node.items for part in (pair.key, pair.value)])

    def _literal(self, node: nodes.Expr, parts: list[nodes.Expr]) -> nodes.Node:
        if all(isinstance(part, nodes.Const) for part in parts):
            return node  # as large as the source that wrote it
        self.generic_visit(node)
        return _call("count_value", [node], node.lineno)


def _call(method: str, args: list[nodes.Expr], lineno: int) -> nodes.Call:
    target = nodes.EnvironmentAttribute(method, lineno=lineno)
    return nodes.Call(target, args, [], None, None, lineno=lineno)


class _TokenLimit(Extension):
    """Refuses a template with more tokens than any real one has, before it is parsed."""

    def filter_stream(self, stream: TokenStream) -> Iterable[Token]:
        for count, token in enumerate(stream):
            if count > MAX_TOKENS:
                raise TemplateError(f"the chat template has more than {MAX_TOKENS:,} tokens")
            yield token


class _GenerationTag(Extension):
    """`{% generation %}…{% endgeneration %}` marks text for training; for inference it is only its body."""

    tags = {"generation"}  # noqa: RUF012 (declared so by Jinja)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)

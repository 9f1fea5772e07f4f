"""Integer expressions over a step's sizes, as they stand in a plan.

An expression is a whole number, the name of a size, or `[operator, left, right]` with `+`, `*`, `min`, `max`,
or `/` (a quotient rounded up, by a whole number). No operator makes its result smaller when a size grows, so
the values at the smallest and at the largest sizes bound all others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Expr = int | str | list[Any]
OPERATORS = ("+", "*", "/", "min", "max")
LARGEST = 2**53 - 1
"""Whole numbers that JSON keeps exact in every language (RFC 8259, section 6)."""
DEEPEST = 16
"""Operators within each other."""


def add(left: Expr, right: Expr) -> Expr:
    """left + right"""
    return _make("+", left, right)


def mul(left: Expr, right: Expr) -> Expr:
    """left * right"""
    if left == 1:
        return right
    return left if right == 1 else _make("*", left, right)


def ceil_div(left: Expr, right: int) -> Expr:
    """left / right, rounded up"""
    return left if right == 1 else _make("/", left, right)


def largest(left: Expr, right: Expr) -> Expr:
    """The larger of the two."""
    return left if left == right else _make("max", left, right)


def problem(expr: object, names: Mapping[str, int], depth: int = DEEPEST) -> str | None:
    """Why this is no expression over the sizes `names`; None if it is one."""
    if isinstance(expr, bool) or not isinstance(expr, int | str | list):
        return f"{expr!r:.80} is no expression"
    if isinstance(expr, int):
        return None if 0 <= expr <= LARGEST else f"{expr} is not between 0 and 2^53 - 1"
    if isinstance(expr, str):
        return None if expr in names else f"{expr!r:.80} is no size of this plan"
    if len(expr) != 3 or expr[0] not in OPERATORS:
        return f"{expr!r:.80} is no expression"
    if not depth:
        return f"an expression has more than {DEEPEST} operators within each other"
    if expr[0] == "/" and (not isinstance(expr[2], int) or expr[2] < 1):
        return f"{expr!r:.80} does not divide by a whole number"
    return problem(expr[1], names, depth - 1) or problem(expr[2], names, depth - 1)


def evaluate(expr: Expr, sizes: Mapping[str, int]) -> int:
    """The expression's value.

    Raises:
        ValueError: it is no expression, names a size that is not there, or its value is beyond `LARGEST`.
    """
    if isinstance(expr, str):
        if expr not in sizes:
            raise ValueError(f"{expr!r} is no size of this plan")
        return sizes[expr]
    if isinstance(expr, int):
        value = expr
    elif len(expr) != 3 or expr[0] not in OPERATORS:
        raise ValueError(f"{expr!r} is no expression")
    else:
        value = _apply(expr[0], evaluate(expr[1], sizes), evaluate(expr[2], sizes))
    if value > LARGEST:
        raise ValueError(f"{expr!r} is larger than 2^53 - 1")
    return value


def _make(operator: str, left: Expr, right: Expr) -> Expr:
    if isinstance(left, int) and isinstance(right, int):
        return _apply(operator, left, right)
    return [operator, left, right]


def _apply(operator: str, left: int, right: int) -> int:
    match operator:
        case "+":
            return left + right
        case "*":
            return left * right
        case "min":
            return min(left, right)
        case "max":
            return max(left, right)
    if right < 1:
        raise ValueError(f"{left} is divided by {right}")
    return -(-left // right)

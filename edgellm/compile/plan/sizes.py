"""Integer expressions over a step's sizes, as they stand in a plan.

An expression is a whole number, the name of a size, or `[operator, left, right]` with `+`, `*`, `min`, or
`/` (a quotient rounded up). That is all a launch's grid, its scalars and its buffers need.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Expr = int | str | list[Any]
_OPERATORS = ("+", "*", "/", "min")


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


def evaluate(expr: Expr, sizes: Mapping[str, int]) -> int:
    """The expression's value.

    Raises:
        ValueError: it is no expression, or names a size that is not there.
    """
    if isinstance(expr, int):
        return expr
    if isinstance(expr, str):
        if expr not in sizes:
            raise ValueError(f"{expr!r} is no size of this plan")
        return sizes[expr]
    if len(expr) != 3 or expr[0] not in _OPERATORS:
        raise ValueError(f"{expr!r} is no expression")
    left, right = evaluate(expr[1], sizes), evaluate(expr[2], sizes)
    match expr[0]:
        case "+":
            return left + right
        case "*":
            return left * right
        case "min":
            return min(left, right)
    if right < 1:
        raise ValueError(f"{expr!r} divides by {right}")
    return -(-left // right)


def _make(operator: str, left: Expr, right: Expr) -> Expr:
    expr = [operator, left, right]
    return evaluate(expr, {}) if isinstance(left, int) and isinstance(right, int) else expr

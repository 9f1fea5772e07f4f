"""Expressions over sizes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgellm.compile.plan.sizes import (
    LARGEST,
    OPERATORS,
    Expr,
    add,
    ceil_div,
    evaluate,
    largest,
    mul,
    problem,
)

NAMES = ("n", "b", "m")
sizes = st.fixed_dictionaries({name: st.integers(1, 300) for name in NAMES})
expressions: st.SearchStrategy[Expr] = st.recursive(
    st.integers(0, 40) | st.sampled_from(NAMES),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from([one for one in OPERATORS if one != "/"]), inner, inner).map(list),
        st.tuples(st.just("/"), inner, st.integers(1, 20)).map(list),
    ),
    max_leaves=5,
)


def meaning(expr: Expr, values: dict[str, int]) -> int:
    """What an expression stands for, by another way."""
    if not isinstance(expr, list):
        return values[expr] if isinstance(expr, str) else expr
    left, right = meaning(expr[1], values), meaning(expr[2], values)
    return {
        "+": lambda: sum((left, right)),
        "*": lambda: math.prod((left, right)),
        "/": lambda: left // right + (left % right > 0),
        "min": lambda: sorted((left, right))[0],
        "max": lambda: sorted((left, right))[1],
    }[expr[0]]()


@settings(deadline=None)
@given(expressions, sizes)
def test_evaluate(expr: Expr, values: dict[str, int]) -> None:
    assert problem(expr, values) is None
    assert evaluate(expr, values) == meaning(expr, values)


@settings(deadline=None)
@given(expressions, sizes, st.sampled_from(NAMES), st.integers(0, 50))
def test_no_value_shrinks_when_a_size_grows(expr: Expr, values: dict[str, int], name: str, more: int) -> None:
    assert evaluate(expr, values | {name: values[name] + more}) >= evaluate(expr, values)


@settings(deadline=None)
@given(expressions, expressions, st.integers(1, 9), sizes)
def test_making_expressions(left: Expr, right: Expr, whole: int, values: dict[str, int]) -> None:
    one, two = evaluate(left, values), evaluate(right, values)
    for made, expected in (
        (add(left, right), one + two),
        (mul(left, right), one * two),
        (largest(left, right), max(one, two)),
        (ceil_div(left, whole), math.ceil(one / whole)),
    ):
        assert problem(made, values, depth=20) is None
        assert evaluate(made, values) == expected


@pytest.mark.parametrize("expr", ["k", ["-", 1, 2], ["+", 1], [], ["/", "n", 0], ["*", LARGEST, 2]])
def test_what_has_no_value(expr: Expr) -> None:
    with pytest.raises(ValueError):
        evaluate(expr, {"n": 3})


@pytest.mark.parametrize("expr", [None, 1.0, True, "k", -1, LARGEST + 1, ["/", 4, "n"], ["/", "n", True]])
def test_what_is_no_expression(expr: object) -> None:
    assert problem(expr, {"n": 3})

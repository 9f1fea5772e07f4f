"""What a plan of a language model must have: "Programs of language models" in docs/plan.md."""

from __future__ import annotations

from collections.abc import Iterator

from edgellm.compile.plan.plan import Buffer, Plan

_INPUTS = {"tokens": ("int32", ("n", 4)), "tables": ("int32", ("b", "m")), "rows": ("int32", ("r",))}
_CHOSEN = ("b", "m", "blocks", "context")
"""Sizes that the host chooses; it sets `n` and `r` as well, within the plan's bounds."""

_ROWS = {"logits": "float32", "top": "float32", "top_ids": "int32"}
"""Outputs with a row for each of the tokens asked for, of which a host must know the width."""


def interface_problem(plan: Plan, vocabulary: int) -> str | None:
    """Why this is no plan of a language model with so many tokens; None if it is one."""
    return next(_problems(plan, vocabulary), None)


def _problems(plan: Plan, vocabulary: int) -> Iterator[str]:
    chosen = {name for name, most in plan.sizes.items() if not most}
    if set(plan.sizes) != {"n", "r", *_CHOSEN} or chosen != set(_CHOSEN):
        yield f"its sizes are not n, r and, for the host to choose, {', '.join(_CHOSEN)}"
    inputs = {one.name: (one.dtype, one.shape) for one in plan.buffers if one.kind == "input"}
    if inputs != _INPUTS:
        yield f"its inputs are not {', '.join(_INPUTS)} with their shapes"
    for one in plan.buffers:
        if one.kind == "table" and one.shape[0] != "context":
            yield f"table {one.name} has no row for each position of the context"
        if one.kind == "cache" and (one.shape[0] != "blocks" or not _whole(one)):
            yield f"cache {one.name} is not so much for each block"
    if not any(one.kind == "cache" for one in plan.buffers):
        yield "it has no cache"
    outputs = {one.name: one for one in plan.buffers if one.kind == "output"}
    widths = {name: _width(outputs.get(name), dtype) for name, dtype in _ROWS.items()}
    if widths["logits"] < vocabulary:
        yield f"its output is no float32 logits of r rows for {vocabulary} tokens"
    if widths["top"] != widths["top_ids"]:
        yield "its outputs top and top_ids are not float32 and int32 of one shape"


def _width(buffer: Buffer | None, dtype: str) -> int:
    """Numbers in a row; 0 if there are none."""
    if buffer is None or buffer.dtype != dtype or len(buffer.shape) != 2:
        return 0
    return int(buffer.shape[1]) if buffer.shape[0] == "r" and _whole(buffer) else 0


def _whole(buffer: Buffer) -> bool:
    """Whether all extents but the first are whole numbers, at least 1."""
    return all(isinstance(one, int) and one >= 1 for one in buffer.shape[1:])

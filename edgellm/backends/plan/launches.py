"""What all hosts need of a plan before they launch it: names, and numbers from a step's sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgellm.compile.plan.plan import Launch, Plan, Routine
from edgellm.compile.plan.sizes import Expr, evaluate

AT_ONCE = 16
"""Launches handed to a device at once in steps of many tokens. Drivers end work that does not return in time:
Windows after 2 seconds, amdgpu after 10, and a prompt's 256 tokens take a weak GPU longer than that.
"""
FEW_TOKENS = 8
"""Steps of up to so many are short, and handed over whole, which costs the host least."""
Grid = tuple[int, int, int]
_KEPT = 1024
"""Combinations of sizes whose numbers are kept; a decoding batch meets few."""


class Grids:
    """Workgroups of every kernel of a plan, computed once for each combination of the sizes in them."""

    def __init__(self, plan: Plan) -> None:
        self._grids = {kernel.name: kernel.grid for kernel in plan.kernels}
        names = {name for grid in self._grids.values() for one in grid for name in _names(one)}
        self._names = sorted(names)
        self._known: dict[tuple[int, ...], dict[str, Grid]] = {}

    def of(self, sizes: Mapping[str, int]) -> dict[str, Grid]:
        """By the kernel's name."""
        key = tuple(sizes[name] for name in self._names)
        if key not in self._known:
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[key] = {
                name: (evaluate(x, sizes), evaluate(y, sizes), evaluate(z, sizes))
                for name, (x, y, z) in self._grids.items()
            }
        return self._known[key]


def routine_of(plan: Plan, tokens: int) -> int:
    """The routine that runs a step of so many tokens: the first that holds it."""
    return next(index for index, one in enumerate(plan.routines) if tokens <= one.most)


def submissions(routine: Routine) -> list[Sequence[Launch]]:
    """A routine's launches, in the parts in which a device gets them."""
    launches = routine.launches
    each = len(launches) if routine.most <= FEW_TOKENS else AT_ONCE
    return [launches[start : start + each] for start in range(0, len(launches), each)]


def buffer_bytes(plan: Plan, sizes: Mapping[str, int]) -> dict[str, int]:
    """Bytes to allocate for every buffer of the plan but weights: whole groups of 16."""
    return {one.name: max(16, -(-evaluate(one.bytes, sizes) // 16) * 16) for one in plan.buffers}


def block_bytes(plan: Plan) -> dict[str, int]:
    """Bytes of one block in every cache of the plan."""
    one = dict.fromkeys(plan.sizes, 1)
    return {buffer.name: evaluate(buffer.bytes, one) for buffer in plan.buffers if buffer.kind == "cache"}


def _names(expr: Expr) -> set[str]:
    if isinstance(expr, str):
        return {expr}
    return _names(expr[1]) | _names(expr[2]) if isinstance(expr, list | tuple) else set()

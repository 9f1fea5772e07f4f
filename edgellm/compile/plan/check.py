"""What must hold of a plan beyond the types of its fields. Readers refuse plans for which it does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from edgellm.compile.plan.limits import DeviceLimits
from edgellm.compile.plan.plan import SUFFIXES, Buffer, Kernel, Plan, Routine
from edgellm.compile.plan.sizes import evaluate
from edgellm.compile.plan.sizes import problem as expression_problem

GRID = 65535
"""Workgroups along one dimension, in every language: WebGPU's maxComputeWorkgroupsPerDimension."""
STEP_SIZE = "n"
"""The size by which a routine is chosen."""


def problem(plan: Plan) -> str | None:
    """The first thing that is wrong with a plan; None if nothing is."""
    return next(_problems(plan), None)


def device_problem(plan: Plan, limits: DeviceLimits) -> str | None:
    """Why a device with these limits cannot run a plan that has no `problem`; None if it can.

    Buffers whose extent the host chooses are not looked at: it must keep them within a binding.
    """
    for one in plan.kernels:
        threads = one.threads[0] * one.threads[1] * one.threads[2]
        for what, value, limit in (
            ("threads in a workgroup", threads, limits.threads),
            ("bytes of workgroup memory", one.shared_bytes, limits.shared_bytes),
            ("buffers", len(one.access), limits.buffers),
        ):
            if value > limit:
                return f"kernel {one.name} takes {value} {what}; the device has {limit}"
    for one in plan.kernels:
        for extent in one.grid:
            if not _chosen(extent, plan) and evaluate(extent, plan.sizes) > limits.grid:
                return f"the grid of kernel {one.name} is larger than {limits.grid}"
    bound = {buffer.name: buffer.bytes for buffer in plan.buffers} | plan.weights
    for name, size in bound.items():
        if not _chosen(size, plan) and evaluate(size, plan.sizes) > limits.binding_bytes:
            return f"buffer {name} has more than {limits.binding_bytes} bytes, which the device binds at once"
    return None


def _problems(plan: Plan) -> Iterator[str]:
    if not plan.sizes.get(STEP_SIZE):
        yield f"size {STEP_SIZE} has no largest value"
    names = [*(buffer.name for buffer in plan.buffers), *plan.weights]
    yield from _twice("buffer", names)
    yield from _twice("kernel", [kernel.name for kernel in plan.kernels])
    for buffer in plan.buffers:
        yield from _buffer_problems(buffer, plan)
    yield from _rotary_problems(plan)
    for kernel in plan.kernels:
        yield from _kernel_problems(kernel, plan)
    yield from _routine_problems(plan)


def _buffer_problems(buffer: Buffer, plan: Plan) -> Iterator[str]:
    for extent in buffer.shape:
        if reason := expression_problem(extent, plan.sizes):
            yield f"buffer {buffer.name}: {reason}"
    if reason := _unbounded([buffer.bytes], plan):
        yield f"buffer {buffer.name}: {reason}"


def _rotary_problems(plan: Plan) -> Iterator[str]:
    tables = {buffer.name: buffer for buffer in plan.buffers if buffer.kind == "table"}
    filled = [one.table for one in plan.rotary]
    yield from _twice("table", filled)
    for one in plan.rotary:
        table = tables.get(one.table)
        columns = 2 * len(one.frequencies)
        if table is None or table.dtype != "float32" or table.shape[1:] != (columns,):
            yield f"rotary angles for {one.table}, which is no float32 table of {columns} columns"
    if empty := tables.keys() - set(filled):
        yield f"nothing says what fills table {min(empty)}"


def _kernel_problems(kernel: Kernel, plan: Plan) -> Iterator[str]:
    if not kernel.source.endswith(SUFFIXES[plan.language]):
        yield f"kernel {kernel.name} is in {kernel.source}, which is no {plan.language} text"
    if missing := set(kernel.scalars) - plan.sizes.keys():
        yield f"kernel {kernel.name} takes {min(missing)!r}, which is no size of this plan"
    yield from _twice(f"scalar of kernel {kernel.name}", kernel.scalars)
    for extent in kernel.grid:
        if reason := expression_problem(extent, plan.sizes):
            yield f"grid of kernel {kernel.name}: {reason}"
    if reason := _unbounded(kernel.grid, plan):
        yield f"grid of kernel {kernel.name}: {reason}"
    if plan.language == "wgsl" and kernel.grid[2] != 1:
        yield f"the grid of kernel {kernel.name} has a third dimension, which WGSL's texts do not use"
    for extent in kernel.grid:
        if evaluate(extent, dict.fromkeys(plan.sizes, 1)) < 1:
            yield f"the grid of kernel {kernel.name} may be empty"
        if not _chosen(extent, plan) and evaluate(extent, plan.sizes) > GRID:
            yield f"the grid of kernel {kernel.name} is larger than {GRID}"


def _routine_problems(plan: Plan) -> Iterator[str]:
    most = [routine.most for routine in plan.routines]
    if most != sorted(set(most)) or most[-1] != plan.sizes[STEP_SIZE]:
        yield f"routines are for {most} tokens: these must grow, up to {plan.sizes[STEP_SIZE]}"
    used: set[str] = set()
    for routine in plan.routines:
        yield from _launch_problems(routine, plan)
        used |= {launch.kernel for launch in routine.launches}
    if idle := {kernel.name for kernel in plan.kernels} - used:
        yield f"kernel {min(idle)} is never launched"


def _launch_problems(routine: Routine, plan: Plan) -> Iterator[str]:
    """Names resolve, values are there before they are read, and no launch reads what it writes."""
    kernels = {kernel.name: kernel for kernel in plan.kernels}
    kinds: dict[str, str] = {buffer.name: buffer.kind for buffer in plan.buffers}
    kinds |= dict.fromkeys(plan.weights, "weight")
    written = {name for name, kind in kinds.items() if kind in ("input", "table", "cache", "weight")}
    for index, launch in enumerate(routine.launches):
        where = f"launch {index} of the routine for {routine.most} tokens"
        kernel = kernels.get(launch.kernel)
        if kernel is None:
            yield f"{where}: there is no kernel {launch.kernel}"
            return
        if len(launch.arguments) != len(kernel.access):
            yield f"{where}: {kernel.name} takes {len(kernel.access)} buffers, not {len(launch.arguments)}"
        yield from _twice(f"argument of {where}", launch.arguments)
        results = []
        for name, access in zip(launch.arguments, kernel.access, strict=False):
            if name not in kinds:
                yield f"{where}: there is no buffer {name}"
                continue
            if access != "write" and name not in written:
                yield f"{where}: {name} is read before anything is written to it"
            if access != "read":
                if kinds[name] in ("input", "table", "weight"):
                    yield f"{where}: {name} is written, and {kinds[name]}s are not"
                results.append(name)
        written.update(results)
    for name, kind in kinds.items():
        if kind == "output" and name not in written:
            yield f"the routine for {routine.most} tokens does not write {name}"


def _unbounded(expressions: Sequence[object], plan: Plan) -> str | None:
    """Which value is beyond what numbers in a plan may be, even if the host chooses the smallest sizes."""
    sizes = {name: size or 1 for name, size in plan.sizes.items()}
    try:
        for one in expressions:
            evaluate(one, sizes)  # type: ignore[arg-type]
    except ValueError as error:
        return str(error)
    return None


def _chosen(expr: object, plan: Plan) -> bool:
    """Whether the expression names a size whose largest value the host chooses."""
    if isinstance(expr, str):
        return not plan.sizes[expr]
    return isinstance(expr, list) and any(_chosen(one, plan) for one in expr[1:])


def _twice(what: str, names: Sequence[str]) -> Iterator[str]:
    for name, times in Counter(names).items():
        if times > 1:
            yield f"{what} {name} is there {times} times"

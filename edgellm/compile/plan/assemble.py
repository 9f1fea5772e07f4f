"""From kernels and routines to a plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tvm.ir.expr import Var
from tvm.ir.prim.expr import Add, FloorDiv, IntImm, Mul

from edgellm.compile.gpu.export import Source
from edgellm.compile.gpu.kernel import GpuKernel
from edgellm.compile.plan.plan import (
    DTYPE_BYTES,
    FORMAT,
    SUFFIXES,
    Arithmetic,
    Buffer,
    Feature,
    Kernel,
    Language,
    Plan,
    Rotary,
    Routine,
)
from edgellm.compile.plan.sizes import evaluate


def assemble(
    kernels: Sequence[GpuKernel],
    sources: Sequence[Source],
    routines: Iterable[Routine],
    buffers: Iterable[Buffer],
    sizes: Mapping[str, int],
    *,
    language: Language,
    arithmetic: Arithmetic,
    rotary: Iterable[Rotary] = (),
) -> Plan:
    """The plan. Buffers that launches take and nobody declares are weights.

    Args:
        sources: of the kernels, in their order.

    Raises:
        ValueError: a kernel takes more of a buffer than there is, or two take different extents of a weight.
    """
    routines, buffers = tuple(routines), tuple(buffers)
    written = tuple(
        Kernel(
            one.name,
            one.name + SUFFIXES[language],
            source.entry,
            tuple(argument.access for argument in one.arguments),
            source.scalars,
            one.threads,
            one.shared_bytes,
            one.grid,
        )
        for one, source in zip(kernels, sources, strict=True)
    )
    needs: tuple[Feature, ...] = ("fp16",) if any(source.half for source in sources) else ()
    weights = _weights({one.name: one for one in kernels}, routines, buffers, sizes)
    return Plan(
        FORMAT, language, arithmetic, needs, dict(sizes), tuple(rotary), buffers, weights, written, routines
    )


def argument_bytes(kernel: GpuKernel, sizes: Mapping[str, int]) -> list[int]:
    """Bytes of each buffer that the kernel takes, as it declares them."""
    found = []
    parameters = [one for one in kernel.function.params if one.name not in kernel.sizes]
    for parameter, argument in zip(parameters, kernel.arguments, strict=True):
        dtype, _, lanes = argument.dtype.partition("x")
        count = int(lanes or 1) * DTYPE_BYTES[dtype]
        for extent in parameter.shape:
            count *= _integer(extent, sizes)
        found.append(count)
    return found


def _integer(extent: Any, sizes: Mapping[str, int]) -> int:
    if isinstance(extent, Var):
        return sizes[extent.name]
    if isinstance(extent, Mul):
        return _integer(extent.a, sizes) * _integer(extent.b, sizes)
    if isinstance(extent, Add):
        return _integer(extent.a, sizes) + _integer(extent.b, sizes)
    if isinstance(extent, FloorDiv):
        return _integer(extent.a, sizes) // _integer(extent.b, sizes)
    if isinstance(extent, IntImm | int):
        return int(extent)
    raise ValueError(f"the extent of a buffer is {extent}, which is not understood")


def _weights(
    kernels: Mapping[str, GpuKernel],
    routines: Sequence[Routine],
    buffers: Sequence[Buffer],
    sizes: Mapping[str, int],
) -> dict[str, int]:
    """Bytes of each weight; checks on the way that buffers are as large as kernels take them to be."""
    declared = {buffer.name: buffer for buffer in buffers}
    found: dict[str, int] = {}
    for routine in routines:
        largest = {name: size or 3 for name, size in sizes.items()}
        largest |= {name: min(largest[name], routine.most) for name in ("n", "r") if name in largest}
        taken = {name: argument_bytes(kernel, largest) for name, kernel in kernels.items()}
        for launch in routine.launches:
            for name, size in zip(launch.arguments, taken[launch.kernel], strict=True):
                if name not in declared:
                    if found.setdefault(name, size) != size:
                        raise ValueError(f"kernels take {found[name]} and {size} bytes of weight {name}")
                elif size > evaluate(declared[name].bytes, largest):
                    raise ValueError(f"{launch.kernel} takes {size} bytes of {name}, which is smaller")
    return found

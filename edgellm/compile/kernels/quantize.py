"""Activations to int8: one scale for every 32 neighbours, q = round(x * 127 / max |group|)."""

from __future__ import annotations

from tvm.tirx.script.builder import ir as T

from edgellm.compile.kernels.vector import (
    Buffer,
    Value,
    bind,
    call,
    fill,
    maximum,
    reduce_add_int,
    reduce_max,
    store,
)
from edgellm.quantize.cpu_layout import RUN
from edgellm.quantize.formats import GROUP, padded


def quantize_group(
    values: list[Value],
    lanes: int,
    zero: int,
    out: tuple[Buffer, Buffer, Buffer],
    row: Value,
    group: Value,
    width: int,
) -> None:
    """Quantize one group of a row.

    Args:
        values: the group's 32 numbers as vectors of `lanes`.
        zero: what the weights they meet are shifted by (see `dot`).
        out: codes, scales, corrections, as flat buffers of rows of `width` numbers, padded to a multiple of
        64.
    """
    codes, scales, corrections = out
    largest = None
    for value in values:
        size = call(f"float32x{lanes}", "llvm.fabs", value)
        largest = size if largest is None else maximum(largest, size)
    peak = reduce_max(largest)
    # A group of zeros: any finite factor gives zeros.
    factor = bind(T.float32(127) / T.max(peak, T.float32(1e-30)))
    place = bind(row * (padded(width, RUN) // GROUP) + group)
    total = None
    for index, value in enumerate(values):
        rounded = call(f"float32x{lanes}", "llvm.roundeven", bind(value * fill(factor, lanes)))
        ints = bind(T.cast(rounded, f"int32x{lanes}"))
        total = ints if total is None else bind(total + ints)
        store(codes, bind(place * GROUP + index * lanes), T.cast(ints, f"int8x{lanes}"), lanes)
    store(scales, place, bind(peak * T.float32(1 / 127)), 1)
    store(corrections, place, bind(reduce_add_int(total) * T.int32(-zero)), 1)
    if width % RUN:
        with T.If(group == width // GROUP - 1), T.Then():
            # What pads the row counts as zeros, whatever its codes are.
            store(scales, place + 1, T.float32(0), 1)
            store(corrections, place + 1, T.int32(0), 1)

"""Many rows of activations × weights: tiles of both in the workgroup's memory, tiles of results in registers.

A workgroup takes `rows` rows and 64 outputs, a thread 4 × 4 of them. For each group of 32 inputs the weights
are dequantized into shared memory once, beside the activations, both as vectors of four inputs.
"""

from __future__ import annotations

from tvm.tirx.script.builder import ir as T

from edgellm.compile.gpu.kernel import (
    GpuKernel,
    KernelBuilder,
    Value,
    barrier,
    bind,
    cells,
    floats,
    lane,
    store,
    vector,
)
from edgellm.compile.gpu.product import TILE, Ending, Product
from edgellm.compile.gpu.weights import PART, Matrix
from edgellm.quantize.formats import GROUP

_ACROSS = 16
"""Threads along the outputs."""
_EACH = 4
"""Rows of a thread, and outputs."""
_FOURS = GROUP // 4


def gemm(product: Product, name: str, *, rows: int, half_sums: bool = False, size: str = "n") -> GpuKernel:
    """A kernel for up to `size` rows, `rows` (a multiple of 32) of them in a workgroup.

    Arguments: as of `matvec`, without a norm.

    Args:
        half_sums: with fp16 arithmetic, sums over a group's 8 fours of inputs are kept in fp16 too.
    """
    p = product
    assert p.norm is None
    quarter = p.inputs // 4
    lines = rows // _EACH
    threads = _ACROSS * lines
    with KernelBuilder(name) as k:
        n = k.size(size)
        x = k.buffer("x", n * quarter, f"{p.source}x4")
        matrix = Matrix(k, p.outputs, p.inputs, p.bits, half=p.half, parts=True)
        ending = Ending(k, p, n)
        grid = (p.outputs // TILE, ["/", size, rows])
        with k.launch(grid, (_ACROSS, lines)) as ((tile, part), (across, line)):
            weights, values = (
                k.shared(_FOURS * TILE, f"{p.source}x4"),
                k.shared(_FOURS * rows, f"{p.source}x4"),
            )
            flat = bind(line * _ACROSS + across)
            first = bind(part * rows)
            totals = cells(_EACH * _EACH)
            for total in totals:
                total.value = T.float32(0)
            with T.serial(matrix.groups) as group:
                barrier()
                with T.serial(rows * _FOURS // threads) as turn:
                    at = bind(turn * threads + flat)
                    row, four = bind(T.floordiv(at, _FOURS)), bind(T.floormod(at, _FOURS))
                    source = bind(T.min(first + row, n - 1) * quarter + group * _FOURS + four)
                    store(values, _place(row, four), x[source])
                with T.serial(TILE * (GROUP // PART) // threads) as turn:
                    at = bind(turn * threads + flat)
                    column, eight = bind(T.floormod(at, TILE)), bind(T.floordiv(at, TILE))
                    loaded = matrix.part(group, eight, bind(tile * TILE + column))
                    for i in range(PART // 4):
                        four = [_scaled(loaded.weight(4 * i + j), loaded.scale, p.source) for j in range(4)]
                        store(weights, (eight * (PART // 4) + i) * TILE + column, vector(four))
                barrier()
                sums = cells(_EACH * _EACH, "float16x4") if half_sums else None
                for one in sums or ():
                    one.value = T.Broadcast(T.float16(0), 4)
                with T.serial(_FOURS) as four:
                    left = [bind(values[_place(bind(line + i * lines), four)]) for i in range(_EACH)]
                    right = [bind(weights[four * TILE + _column(p, across, j)]) for j in range(_EACH)]
                    for i in range(_EACH):
                        for j in range(_EACH):
                            if sums is not None:
                                one = sums[i * _EACH + j]
                                one.value = one.value + left[i] * right[j]
                                continue
                            total = totals[i * _EACH + j]
                            value = total.value
                            for at in range(4):
                                value = value + floats(lane(left[i], at)) * floats(lane(right[j], at))
                            total.value = value
                for total, one in zip(totals, sums or (), strict=False):
                    four = bind(one.value)
                    low, high = (
                        floats(lane(four, 0)) + floats(lane(four, 1)),
                        floats(lane(four, 2)) + floats(lane(four, 3)),
                    )
                    total.value = total.value + (low + high)
            for i in range(_EACH):
                row = bind(first + line + i * lines)
                with T.If(row < n), T.Then():
                    found = [bind(total.value) for total in totals[i * _EACH : (i + 1) * _EACH]]
                    for j in range(0, _EACH, 2):
                        here = bind(tile * TILE + _column(p, across, j))
                        if p.gated:
                            ending.store_gated(row, here, found[j], found[j + 1])
                        else:
                            ending.store(row, here, found[j])
                            ending.store(row, bind(tile * TILE + _column(p, across, j + 1)), found[j + 1])
    return k.kernel


def _place(row: Value, four: Value) -> Value:
    """Where four inputs of a row stand: neighbouring rows begin in different banks."""
    return bind(row * _FOURS + T.bitwise_xor(four, T.bitwise_and(row, T.int32(_FOURS - 1))))


def _column(p: Product, across: Value, j: int) -> Value:
    """A thread's output j: neighbours of a pair where gate and up take turns, else spread over the tile."""
    return across * 2 + ((j // 2) * 2 * _ACROSS + j % 2) if p.gated else across + j * _ACROSS


def _scaled(weight: Value, scale: Value | None, dtype: str) -> Value:
    value = weight if scale is None else weight * scale
    return T.cast(value, dtype) if dtype != "float32" else value

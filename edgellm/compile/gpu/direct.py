"""Rows of activations × weights without the workgroup's memory, for GPUs that keep it in main memory.

A thread sums whole outputs for a few rows at once, in registers, straight from the matrix: neighbouring
threads load neighbouring vectors of weights, and all threads of a workgroup the same activations. There is
no barrier, and an output is one sum over the groups in order, however many rows and outputs a thread has.

The norm before the product can be part of it, since each thread sees all of a row anyway: weights are
multiplied by the norm's, and sums by what the squares of the row come to.
"""

from __future__ import annotations

from typing import Any

from tvm.tirx.script.builder import ir as T

from edgellm.compile.gpu.kernel import (
    Buffer,
    GpuKernel,
    KernelBuilder,
    Value,
    bind,
    cells,
    floats,
    lane,
    vector,
)
from edgellm.compile.gpu.product import TILE, Ending, Product
from edgellm.compile.gpu.weights import Matrix, Weights
from edgellm.quantize.formats import GROUP

_FOURS = GROUP // 4


def direct(
    product: Product, name: str, *, rows: int, each: int, half_sums: bool = False, size: str = "n"
) -> GpuKernel:
    """A kernel for up to `size` rows; a thread takes `rows` of them and `each` (even if gated) outputs.

    Arguments: as of `matvec`.

    Args:
        half_sums: with fp16 arithmetic, sums over a group's 8 fours of inputs are kept in fp16 too.
    """
    p = product
    assert not (p.gated and each % 2)
    quarter = p.inputs // 4
    with KernelBuilder(name) as k:
        n = k.size(size)
        x = k.buffer("x", n * quarter, f"{p.source}x4")
        norm = k.buffer("norm", quarter, "float32x4") if p.norm is not None else None
        matrix = Matrix(k, p.outputs, p.inputs, p.bits, half=p.half)
        ending = Ending(k, p, n)
        grid = (-(-p.outputs // (TILE * each)), ["/", size, rows] if rows > 1 else size)
        with k.launch(grid, (TILE,)) as ((tile, part), (place,)):
            first = bind(part * rows)
            row = [bind(T.min(first + m, n - 1)) if rows > 1 else first for m in range(rows)]
            output = [bind(_output(p, tile, place, j, each)) for j in range(each)]
            whole = p.outputs % (TILE * each) == 0
            inside = [one if whole else bind(T.min(one, p.outputs - 1)) for one in output]
            totals = cells(rows * each)
            squares = cells(rows) if norm is not None else []
            for total in [*totals, *squares]:
                total.value = T.float32(0)
            with T.serial(matrix.groups) as group:
                weights = [matrix.group(group, one) for one in inside]
                at = bind(group * _FOURS)
                sums = _sums(p, weights, norm, x, [bind(one * quarter + at) for one in row], at, half_sums)
                for total, value in zip([*totals, *squares], sums, strict=True):
                    total.value = total.value + value
            for m in range(rows):
                line = bind(first + m)
                found = [bind(total.value) for total in totals[m * each : (m + 1) * each]]
                if p.norm is not None:
                    factor = bind(T.sqrt(squares[m].value / T.float32(p.inputs) + T.float32(p.norm)))
                    found = [bind(value / factor) for value in found]
                for j in range(0, each, 2 if p.gated else 1):
                    with T.If(T.And(line < n, output[j] < p.outputs)), T.Then():
                        if p.gated:
                            ending.store_gated(line, output[j], found[j], found[j + 1])
                        else:
                            ending.store(line, output[j], found[j])
    return k.kernel


def _output(p: Product, tile: Value, place: Value, j: int, each: int) -> Value:
    """A thread's output j: neighbours where gate and up take turns, else one of each 64."""
    base = tile * (TILE * each)
    return base + (j // 2 * 2 * TILE + j % 2) + place * 2 if p.gated else base + j * TILE + place


def _sums(
    p: Product,
    weights: list[Weights],
    norm: Buffer | None,
    x: Buffer,
    begins: list[Value],
    at: Value,
    half_sums: bool,
) -> list[Value]:
    """A group's sums of each row's outputs, one row after the other, then with a norm each row's squares."""
    sums: dict[tuple[int, int], Value] = {}
    squares: dict[int, Value] = {}

    def add(found: dict[Any, Value], key: Any, value: Value) -> None:
        found[key] = bind(found[key] + value) if key in found else bind(value)

    for four in range(_FOURS):
        factors = None if norm is None else bind(norm[at + four])
        columns = []
        for one in weights:
            values = [one.weight(4 * four + i) for i in range(4)]
            if factors is not None:
                values = [value * lane(factors, i) for i, value in enumerate(values)]
            if half_sums:
                scale = T.float32(1) if one.scale is None else one.scale
                columns.append(vector([T.cast(value * scale, "float16") for value in values]))
            else:
                columns.append([bind(value) for value in values])
        for m, begin in enumerate(begins):
            loaded = bind(x[begin + four])
            if half_sums:
                for j, column in enumerate(columns):
                    add(sums, (m, j), column * loaded)
                continue
            entries = [bind(floats(lane(loaded, i))) for i in range(4)]
            for j, column in enumerate(columns):
                add(sums, (m, j), _dot(column, entries))
            if norm is not None:
                add(squares, m, _dot(entries, entries))
    results = []
    for (_, j), total in sums.items():
        if half_sums:
            low = floats(lane(total, 0)) + floats(lane(total, 1))
            results.append(bind(low + (floats(lane(total, 2)) + floats(lane(total, 3)))))
        else:
            scale = weights[j].scale
            results.append(total if scale is None else bind(total * scale))
    return [*results, *squares.values()]


def _dot(left: list[Value], right: list[Value]) -> Value:
    value = left[0] * right[0]
    for a, b in zip(left[1:], right[1:], strict=True):
        value = value + a * b
    return value

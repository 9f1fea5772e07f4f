"""Few rows of activations × weights, bound by the memory that holds the weights.

A workgroup takes a tile of outputs; its threads stand in a grid of outputs × slices of the inputs, each
thread sums its slice for all rows at once, and the slices are added in order. Every weight is read once.

The norm before the product can be part of it: weights are multiplied by the norm's, which costs once for all
rows, and sums by what the squares of a row come to.
"""

from __future__ import annotations

from tvm.tirx.script.builder import ir as T

from edgellm.compile.gpu.kernel import (
    Buffer,
    Cell,
    GpuKernel,
    KernelBuilder,
    Value,
    barrier,
    bind,
    cells,
    floats,
    lane,
    store,
)
from edgellm.compile.gpu.product import TILE, Ending, Product
from edgellm.compile.gpu.weights import Matrix, Weights
from edgellm.quantize.formats import GROUP

_PARTS = 16
"""Partial sums of squares that are left for each thread to add up."""


def matvec(
    product: Product, name: str, *, rows: int, slices: int, width: int = TILE, size: str = "n"
) -> GpuKernel:
    """A kernel for up to `size` rows, `rows` of them in a workgroup, and `width` outputs.

    Arguments: x[n * inputs / 4] of vectors of four, (norm float32x4[inputs / 4],) w, (s,) (bias
    float32[outputs],) (residual float32[n * width],) y[n * width].
    """
    p = product
    quarter = p.inputs // 4
    with KernelBuilder(name) as k:
        n = k.size(size)
        x = k.buffer("x", n * quarter, f"{p.source}x4")
        norm = k.buffer("norm", quarter, "float32x4") if p.norm is not None else None
        matrix = Matrix(k, p.outputs, p.inputs, p.bits, half=p.half)
        ending = Ending(k, p, n)
        grid = (p.outputs // width, [*("/", size, rows)] if rows > 1 else size)
        with k.launch(grid, (width, slices)) as ((tile, part), (column, piece)):
            threads = width * slices
            sums = k.shared(slices * rows * width)
            first = bind(part * rows)
            output = bind(tile * width + column)
            flat = bind(piece * width + column)
            row = [bind(T.min(first + m, n - 1)) if rows > 1 else first for m in range(rows)]
            squares = None
            if norm is not None:
                squares = k.shared(rows * threads)
                for m in range(rows):
                    store(squares, m * threads + flat, _squares(x, row[m] * quarter, quarter, flat, threads))
            totals = cells(rows)
            for total in totals:
                total.value = T.float32(0)
            with T.serial((matrix.groups + slices - 1) // slices) as step:
                group = bind(step * slices + piece)

                def accumulate() -> None:
                    weights = matrix.group(group, output)
                    values = _weights(weights, norm, group)
                    for m, total in enumerate(totals):
                        part = _dot(values, x, bind(row[m] * quarter + group * (GROUP // 4)))
                        scaled = part if weights.scale is None else part * weights.scale
                        total.value = total.value + scaled

                if matrix.groups % slices:
                    with T.If(group < matrix.groups), T.Then():
                        accumulate()
                else:
                    accumulate()
            for m, total in enumerate(totals):
                store(sums, (piece * rows + m) * width + column, total.value)
            barrier()
            if squares is not None:
                with T.If(flat < rows * _PARTS), T.Then():
                    total = Cell("float32")
                    total.value = T.float32(0)
                    begin = bind(flat * (threads // _PARTS))
                    with T.serial(threads // _PARTS) as i:
                        total.value = total.value + squares[begin + i]
                    store(squares, begin, total.value)
                barrier()

            def result(m: Value, column: Value) -> Value:
                """Of all slices, normed."""
                value = sums[m * width + column]
                for other in range(1, slices):
                    value = value + sums[(other * rows + m) * width + column]
                if squares is None or p.norm is None:
                    return bind(value)
                total = squares[m * threads]
                for i in range(1, _PARTS):
                    total = total + squares[m * threads + i * (threads // _PARTS)]
                return bind(value / T.sqrt(total / T.float32(p.inputs) + T.float32(p.norm)))

            # Threads share the rows × results of the tile.
            span = width // 2 if p.gated else width
            todo = rows * span
            with T.serial(-(-todo // threads)) as turn:
                index = bind(turn * threads + flat)
                m, at = bind(T.floordiv(index, span)), bind(T.floormod(index, span))
                line = bind(first + m)
                with T.If(T.And(index < todo, line < n)), T.Then():
                    if p.gated:
                        ending.store_gated(
                            line, tile * width + at * 2, result(m, at * 2), result(m, at * 2 + 1)
                        )
                    else:
                        ending.store(line, tile * width + at, result(m, at))
    return k.kernel


def _squares(x: Buffer, base: Value, quarter: int, flat: Value, threads: int) -> Value:
    """This thread's share of a row's squares."""
    total = Cell("float32")
    total.value = T.float32(0)
    with T.serial(-(-quarter // threads)) as turn:
        at = bind(turn * threads + flat)
        with T.If(at < quarter), T.Then():
            four = bind(x[base + at])
            for j in range(4):
                total.value = total.value + floats(lane(four, j)) * floats(lane(four, j))
    return total.value


def _weights(weights: Weights, norm: Buffer | None, group: Value) -> list[Value]:
    """32 weights, multiplied by the norm's."""
    found = []
    for four in range(GROUP // 4):
        factors = None if norm is None else bind(norm[group * (GROUP // 4) + four])
        for j in range(4):
            value = weights.weight(4 * four + j)
            found.append(bind(value if factors is None else value * lane(factors, j)))
    return found


def _dot(weights: list[Value], x: Buffer, at: Value) -> Value:
    """Sum of 32 weights times as many numbers of x."""
    total = None
    for four in range(GROUP // 4):
        values = bind(x[at + four])
        part = None
        for j in range(4):
            one = weights[4 * four + j] * floats(lane(values, j))
            part = one if part is None else part + one
        total = bind(part if total is None else total + part)
    return total

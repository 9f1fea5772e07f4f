"""Few rows of activations × weights, bound by the memory that holds the weights.

A workgroup takes 64 outputs; its threads stand in a grid of outputs × slices of the inputs, each thread sums its
slice for all rows at once, and the slices are added in order. Every weight is read once.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm.tirx.script.builder import ir as T

from edgellm.compile.gpu.activate import activate
from edgellm.compile.gpu.kernel import (
    GpuKernel,
    KernelBuilder,
    Value,
    barrier,
    bind,
    cells,
    store,
)
from edgellm.compile.gpu.weights import Matrix, dot
from edgellm.compile.plan.sizes import ceil_div

TILE = 64
"""Outputs of a workgroup."""


@dataclass(frozen=True)
class Product:
    """y = x · w: `outputs` (a multiple of 64) and `inputs` (of 32), bits of a weight, and what comes after.

    Attributes:
        gated: outputs alternate between gate and up; the result is activation(gate) * up, half as wide.
    """

    outputs: int
    inputs: int
    bits: int
    bias: bool = False
    residual: bool = False
    gated: str | None = None


def matvec(product: Product, name: str, *, rows: int, slices: int, size: str = "n") -> GpuKernel:
    """A kernel for up to `size` rows, `rows` of them in a workgroup.

    Arguments: x float32x4[n * inputs / 4], w, (s,) (bias float32[outputs],) (residual float32[n * outputs],)
    y float32[n * outputs] (or half as wide).
    """
    p = product
    quarter = p.inputs // 4
    with KernelBuilder(name) as k:
        n = k.size(size)
        x = k.buffer("x", n * quarter, "float32x4")
        matrix = Matrix(k, p.outputs, p.inputs, p.bits)
        bias = k.buffer("bias", p.outputs, "float32") if p.bias else None
        width = p.outputs // 2 if p.gated else p.outputs
        residual = k.buffer("residual", n * width, "float32") if p.residual else None
        y = k.buffer("y", n * width, "float32", "write")
        grid = (p.outputs // TILE, ceil_div(size, rows))
        with k.launch(grid, (TILE, slices)) as ((tile, part), (column, piece)):
            sums = k.shared(slices * rows * TILE)
            first = bind(part * rows)
            output = bind(tile * TILE + column)
            totals = cells(rows)
            for total in totals:
                total.value = T.float32(0)
            with T.serial((matrix.groups + slices - 1) // slices) as step:
                group = bind(step * slices + piece)

                def accumulate() -> None:
                    weights = matrix.group(group, output)
                    for m, total in enumerate(totals):
                        row = bind(T.min(first + m, n - 1)) if rows > 1 else first
                        total.value = total.value + dot(weights, x, bind(row * quarter + group * (GROUP_QUARTER)))

                if matrix.groups % slices:
                    with T.If(group < matrix.groups), T.Then():
                        accumulate()
                else:
                    accumulate()
            for m, total in enumerate(totals):
                store(sums, (piece * rows + m) * TILE + column, total.value)
            barrier()

            def result(m: Value, column: Value) -> Value:
                """Of all slices, with the bias."""
                value = sums[m * TILE + column]
                for other in range(1, slices):
                    value = value + sums[(other * rows + m) * TILE + column]
                return bind(value if bias is None else value + bias[tile * TILE + column])

            # Threads share the rows × outputs of the tile.
            span = TILE // 2 if p.gated else TILE
            threads, todo = TILE * slices, rows * span
            flat = bind(piece * TILE + column)
            with T.serial(-(-todo // threads)) as turn:
                index = bind(turn * threads + flat)
                m, at = bind(T.floordiv(index, span)), bind(T.floormod(index, span))
                row = bind(first + m)
                with T.If(T.And(index < todo, row < n)), T.Then():
                    if p.gated:
                        value = bind(activate(p.gated, result(m, at * 2)) * result(m, at * 2 + 1))
                    else:
                        value = result(m, at)
                    place = bind(row * width + tile * span + at)
                    if residual is not None:
                        value = bind(value + residual[place])
                    store(y, place, value)
    return k.kernel


GROUP_QUARTER = 8
"""Four-element loads of a group."""

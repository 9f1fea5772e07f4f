"""RMSNorm of rows (Zhang and Sennrich, 2019): x / sqrt(mean(x**2) + eps) * weight."""

from __future__ import annotations

from tvm.tirx.script.builder import ir as T

from edgellm.compile.gpu.kernel import (
    Cell,
    GpuKernel,
    KernelBuilder,
    bind,
    lane,
    narrow,
    store,
    workgroup_sum,
)

THREADS = 64


def norm(
    width: int,
    name: str,
    *,
    eps: float,
    pick_rows: bool = False,
    residual: bool = False,
    result: str = "float32",
) -> GpuKernel:
    """Norms of rows of `width` (a multiple of 4) float32 numbers.

    Arguments: x float32x4[n * width / 4], (rows int32[r] with `pick_rows`: which ones,) weight
    float32[width], (residual float32[n * width]: added afterwards,) y[rows * width] of the type `result`.
    """
    quarter = width // 4
    size = "r" if pick_rows else "n"
    with KernelBuilder(name) as k:
        n = k.size("n")
        count = k.size(size)
        x = k.buffer("x", n * quarter, "float32x4")
        rows = k.buffer("rows", count, "int32") if pick_rows else None
        weight = k.buffer("weight", width, "float32")
        more = k.buffer("residual", n * width, "float32") if residual else None
        y = k.buffer("y", count * width, result, "write")
        with k.launch((size,), (THREADS,)) as ((row,), (place,)):
            squares = k.shared(THREADS)
            source = bind(row if rows is None else rows[row])
            total = Cell("float32")
            total.value = T.float32(0)
            turns = -(-quarter // THREADS)
            with T.serial(turns) as turn:
                at = bind(turn * THREADS + place)
                with T.If(at < quarter), T.Then():
                    four = bind(x[source * quarter + at])
                    for j in range(4):
                        total.value = total.value + lane(four, j) * lane(four, j)
            store(squares, place, total.value)
            workgroup_sum(squares, place, THREADS)
            factor = bind(T.float32(1) / T.sqrt(squares[0] / T.float32(width) + T.float32(eps)))
            with T.serial(turns) as turn:
                at = bind(turn * THREADS + place)
                with T.If(at < quarter), T.Then():
                    four = bind(x[source * quarter + at])
                    for j in range(4):
                        column = bind(at * 4 + j)
                        value = bind(lane(four, j) * factor * weight[column])
                        if more is not None:
                            value = bind(value + more[row * width + column])
                        store(y, row * width + column, narrow(value, result))
    return k.kernel

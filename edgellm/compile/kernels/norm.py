"""RMSNorm, in the form that the next product takes, or fused with the residual sum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm.tirx.script.builder import ir as T

from edgellm.compile.isa import Isa
from edgellm.compile.kernels.activations import Activations, activation_buffers
from edgellm.compile.kernels.vector import (
    Buffer,
    Kernel,
    Value,
    bind,
    call,
    fill,
    flat,
    fma,
    load,
    reduce_add,
    registers,
    store,
)
from edgellm.quantize.formats import GROUP

_FEW = 4
"""Rows that one thread handles sooner than others could be woken."""


def norm(isa: Isa, width: int, name: str, *, eps: float, form: Activations, pick_rows: bool = False) -> Any:
    """rmsnorm(x) * weight.

    Arguments: x float32[n, width], (rows int32[r]: which rows, with `pick_rows`,) weight float32[width], and
    the result, of n (or r) rows, as `form` has it.
    """
    with Kernel(name) as k:
        n = k.size("n")
        x = k.buffer("x", (n, width), "float32")
        count, rows = n, None
        if pick_rows:
            count = k.size("r")
            rows = k.buffer("rows", (count,), "int32")
        weight = k.buffer("weight", (width,), "float32")
        out = activation_buffers(k, form, count, width)
        x, out = flat(x), tuple(flat(one) for one in out)

        def one(row: Value) -> None:
            at = bind((rows[row] if rows is not None else row) * width)
            factor = inverse_rms(isa, x, at, width, eps)
            with T.serial(width // GROUP) as group:
                values = []
                for part in range(GROUP // isa.lanes):
                    column = bind(group * GROUP + part * isa.lanes)
                    value = bind(load(x, bind(at + column), isa.lanes) * fill(factor, isa.lanes))
                    values.append(bind(value * load(weight, column, isa.lanes)))
                form.write(out, values, isa.lanes, row, group * GROUP, width)

        for_rows(count, one)
    return k.function


def add_norm(isa: Isa, width: int, name: str, *, eps: float) -> Any:
    """out = residual + rmsnorm(x) * weight. Arguments: x, residual float32[n, width], weight, out."""
    with Kernel(name) as k:
        n = k.size("n")
        x = k.buffer("x", (n, width), "float32")
        residual = k.buffer("residual", (n, width), "float32")
        weight = k.buffer("weight", (width,), "float32")
        out = k.buffer("out", (n, width), "float32")
        x, residual, out = flat(x), flat(residual), flat(out)

        def one(row: Value) -> None:
            at = bind(row * width)
            factor = inverse_rms(isa, x, at, width, eps)
            with T.serial(width // isa.lanes) as i:
                place = bind(at + i * isa.lanes)
                value = bind(load(x, place, isa.lanes) * fill(factor, isa.lanes))
                weighed = bind(value * load(weight, i * isa.lanes, isa.lanes))
                store(out, place, bind(load(residual, place, isa.lanes) + weighed), isa.lanes)

        for_rows(n, one)
    return k.function


def convert(isa: Isa, width: int, name: str, *, form: Activations) -> Any:
    """x float32[n, width] in another form. Arguments: x, the result."""
    with Kernel(name) as k:
        n = k.size("n")
        x = k.buffer("x", (n, width), "float32")
        out = activation_buffers(k, form, n, width)
        x, out = flat(x), tuple(flat(one) for one in out)

        def one(row: Value) -> None:
            with T.serial(width // GROUP) as group:
                at = bind(row * width + group * GROUP)
                values = [load(x, at + p * isa.lanes, isa.lanes) for p in range(GROUP // isa.lanes)]
                form.write(out, values, isa.lanes, row, group * GROUP, width)

        for_rows(n, one)
    return k.function


def inverse_rms(isa: Isa, x: Buffer, at: Value, width: int, eps: float) -> Value:
    """1 / sqrt(mean of squares + eps) of `width` numbers of x from `at` on; `width` is a multiple of the
    lanes.
    """
    (total,) = registers("float32", isa.lanes, 1)
    total.value = fill(0.0, isa.lanes)
    with T.serial(width // isa.lanes) as i:
        value = load(x, bind(at + i * isa.lanes), isa.lanes)
        total.value = fma(value, value, total.value, isa.lanes)
    mean = bind(reduce_add(total.value, isa.lanes) * T.float32(1 / width) + T.float32(eps))
    return bind(T.float32(1) / call("float32", "llvm.sqrt", mean))


def for_rows(n: Value, body: Callable[[Value], None]) -> None:
    """Call `body(row)` for all `n` rows, in parallel if they are many."""
    with T.If(n < _FEW):
        with T.Then(), T.serial(n) as row:
            body(row)
        with T.Else(), T.parallel(n) as row:
            body(row)

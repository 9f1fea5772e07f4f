"""Rows of the embedding matrix, which lies packed like any other (it may be the output matrix too)."""

from __future__ import annotations

from typing import Any

from tvm.tirx.script.builder import ir as T

from edgellm.compile.kernels.matmul import MatmulShape
from edgellm.compile.kernels.norm import for_rows
from edgellm.compile.kernels.vector import Buffer, Kernel, Value, bind, flat, load, store
from edgellm.quantize.cpu_layout import BLOCK, run_inputs
from edgellm.quantize.formats import GROUP, ZERO


def embed(shape: MatmulShape, width: int, name: str, *, factor: float) -> Any:
    """out[n, width] = row of each token * factor. Arguments: token_ids int32[n], w uint8[...], out
    float32.
    """
    one = _quantized if shape.bits in ZERO else _floats
    with Kernel(name) as k:
        n = k.size("n")
        ids = k.buffer("token_ids", (n,), "int32")
        w = k.buffer("w", (shape.weight_bytes,), "uint8")
        out = flat(k.buffer("out", (n, width), "float32"))
        runs = shape.inputs // run_inputs(shape.bits)

        def row(row: Value) -> None:
            block, lane = bind(T.floordiv(ids[row], BLOCK)), bind(T.floormod(ids[row], BLOCK))
            base = bind(T.cast(block, "int64") * (runs * shape.run_bytes))
            one(shape, w, base, lane, out, bind(row * width), width, factor)

        for_rows(n, row)
    return k.function


def _quantized(
    shape: MatmulShape, w: Buffer, base: Value, lane: Value, out: Buffer, to: Value, width: int, factor: float
) -> None:
    lines, zero = (4 if shape.bits == 4 else 8), T.float32(ZERO[shape.bits])
    with T.serial(width // GROUP) as group:
        run, half = bind(T.floordiv(group, 2)), bind(T.floormod(group, 2))
        at = bind(base + run * shape.run_bytes)
        pair = w[T.Ramp(bind(at + half * 32 + lane * 2), 1, 2)]
        scale = bind(T.cast(T.reinterpret("float16", pair), "float32") * T.float32(factor))
        with T.serial(lines) as line, T.serial(4) as i:
            byte = bind(w[at + 64 + (half * lines + line) * 64 + lane * 4 + i])
            place = bind(to + group * GROUP + line * 4 + i)
            if shape.bits == 8:
                store(out, place, (T.cast(byte, "float32") - zero) * scale, 1)
            else:
                low, high = byte & T.uint8(15), byte >> T.uint8(4)
                store(out, place, (T.cast(low, "float32") - zero) * scale, 1)
                store(out, place + 16, (T.cast(high, "float32") - zero) * scale, 1)


def _floats(
    shape: MatmulShape, w: Buffer, base: Value, lane: Value, out: Buffer, to: Value, width: int, factor: float
) -> None:
    size = shape.bits // 8
    with T.serial(width) as i:
        data = load(w, bind(base + (i * BLOCK + lane) * size), size)
        value = T.cast(T.reinterpret(f"float{shape.bits}", data), "float32")
        store(out, bind(to + i), value * T.float32(factor), 1)

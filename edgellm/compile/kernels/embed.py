"""Rows of the embedding matrix, which lies packed like any other (it may be the output matrix too)."""

from __future__ import annotations

from typing import Any

from tvm.tirx.script.builder import ir as T

from edgellm.compile.kernels.matmul import MatmulShape
from edgellm.compile.kernels.norm import for_rows
from edgellm.compile.kernels.vector import Kernel, Value, bind, flat, store
from edgellm.quantize.cpu_layout import BLOCK, GROUP


def embed(shape: MatmulShape, width: int, name: str, *, factor: float) -> Any:
    """out[n, width] = row of each token * factor. Arguments: token_ids int32[n], w uint8[...], out
    float32.
    """
    lines = 4 if shape.bits == 4 else 8
    runs = shape.inputs // 64
    with Kernel(name) as k:
        n = k.size("n")
        ids = k.buffer("token_ids", (n,), "int32")
        w = k.buffer("w", (shape.weight_bytes,), "uint8")
        out = flat(k.buffer("out", (n, width), "float32"))

        def one(row: Value) -> None:
            block, lane = bind(T.floordiv(ids[row], BLOCK)), bind(T.floormod(ids[row], BLOCK))
            with T.serial(width // GROUP) as group:
                run, half = bind(T.floordiv(group, 2)), bind(T.floormod(group, 2))
                at = bind((T.cast(block, "int64") * runs + run) * shape.run_bytes)
                pair = w[T.Ramp(bind(at + half * 32 + lane * 2), 1, 2)]
                scale = bind(T.cast(T.reinterpret("float16", pair), "float32") * T.float32(factor))
                to = bind(row * width + group * GROUP)
                with T.serial(lines) as line, T.serial(4) as i:
                    byte = bind(w[at + 64 + (half * lines + line) * 64 + lane * 4 + i])
                    if shape.bits == 8:
                        store(
                            out,
                            bind(to + line * 4 + i),
                            (T.cast(byte, "float32") - T.float32(128)) * scale,
                            1,
                        )
                    else:
                        low, high = byte & T.uint8(15), byte >> T.uint8(4)
                        place = bind(to + line * 4 + i)
                        store(out, place, (T.cast(low, "float32") - T.float32(8)) * scale, 1)
                        store(out, place + 16, (T.cast(high, "float32") - T.float32(8)) * scale, 1)

        for_rows(n, one)
    return k.function

"""Activations × weights: quantized ones here, floating-point ones by `float_tile`.

Weights lie as `edgellm.quantize.cpu_layout` packs them: blocks of 16 outputs, in each one run of bytes per
64 inputs:
32 fp16 scales (16 outputs for each of two groups), then the codes of the two groups, 4 inputs of 16 outputs
to a 64-byte line (with 4 bits: inputs 0-15 of a group in the low nibbles, 16-31 in the high ones).

Every output of quantized weights is one chain of fused multiply-adds over its groups in order, whatever tile
its row is in: results do not depend on the other rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm.tirx.script.builder import ir as T

from edgellm.compile.isa import Isa
from edgellm.compile.kernels.activations import activation_buffers, activations_for
from edgellm.compile.kernels.dot import make_dot
from edgellm.compile.kernels.float_tile import FloatTile
from edgellm.compile.kernels.neon_tile import NeonTile
from edgellm.compile.kernels.vector import (
    PREFETCH,
    Buffer,
    Kernel,
    Register,
    Value,
    bind,
    erf,
    exp,
    fill,
    fill_int,
    flat,
    fma,
    halves,
    load,
    prefetch,
    registers,
    store,
    to_float,
)
from edgellm.quantize.cpu_layout import BLOCK, run_bytes, run_inputs
from edgellm.quantize.formats import GROUP, ZERO

Emit = Callable[[int, int, Value, Value], None]
_FEW = 48
"""Rows up to which reading weights in one stream is faster than using each twice."""
_STRAIGHT = 2
"""Vectors of a block up to which activations are straight-line code; more of it takes seconds to compile."""


@dataclass(frozen=True)
class MatmulShape:
    """outputs (a multiple of 16), inputs (whole runs), and bits of a weight: 4, 8, 16 (fp16) or 32 (fp32)."""

    outputs: int
    inputs: int
    bits: int

    @property
    def run_bytes(self) -> int:
        """Of the weights of 16 outputs and the inputs of a run."""
        return run_bytes(self.bits)

    @property
    def weight_bytes(self) -> int:
        return self.outputs // BLOCK * (self.inputs // run_inputs(self.bits)) * self.run_bytes

    @property
    def units(self) -> int:
        """Blocks that one unit of parallel work takes: activations are read once for all of them, and their
        weights stay in the cache while rows pass."""
        blocks, most = self.outputs // BLOCK, 4 if self.bits in ZERO else 2
        return next(size for size in range(most, 0, -1) if blocks % size == 0)

    @property
    def groups(self) -> int:
        return self.inputs // GROUP


class Tile:
    """Code for a few rows of activations × one or two blocks of 16 outputs."""

    def __init__(self, isa: Isa, shape: MatmulShape, w: Buffer, x: tuple[Buffer, ...]) -> None:
        self.isa, self.shape, self.w = isa, shape, w
        self.codes, self.scales, self.corrections = x
        self.parts = BLOCK // isa.lanes
        self._dot = make_dot(isa, shape.bits)

    def compute(self, block: Value, first: Value, rows: int, emit: Emit, blocks: int = 1) -> None:
        """Sums of `rows` rows from `first` on with `blocks` blocks from `block` on.

        `emit(row, block, part, value)` receives each vector of outputs; `part` counts the vectors of a block.
        """
        places = [(b, p) for b in range(blocks) for p in range(self.parts)]
        # Narrow registers take the outputs of a block in parts, one after the other.
        together = max(1, self.isa.vectors // rows)
        for start in range(0, len(places), together):
            self._sum(places[start : start + together], block, first, rows, emit)

    def _sum(self, places: list[tuple[int, int]], block: Value, first: Value, rows: int, emit: Emit) -> None:
        shape, lanes = self.shape, self.isa.lanes
        runs = shape.inputs // 64
        keys = [(m, *place) for place in places for m in range(rows)]
        sums = dict(zip(keys, registers("float32", lanes, len(keys)), strict=True))
        for total in sums.values():
            total.value = fill(0.0, lanes)
        base = bind(block * (runs * shape.run_bytes))
        blocks = list(dict.fromkeys(b for b, _ in places))
        # Line by line as they are used, where arithmetic leaves room for it; else a run at a time, and for
        # the first rows only: later ones find the weights in the cache.
        spread = len(blocks) == 1 and (rows == 1 or self.isa.bits == 512)
        ahead = bind(T.Select(first == 0, T.int32(PREFETCH), T.int32(0))) if spread else None
        with T.serial(runs) as run:
            at = {b: bind(base + (b * runs + run) * shape.run_bytes) for b in blocks}
            if ahead is not None:
                prefetch(self.w, at[blocks[0]] + ahead, once=True)
            else:
                with T.If(first == 0), T.Then():
                    for start in at.values():
                        for line in range(shape.run_bytes // 64):
                            prefetch(self.w, start + PREFETCH + line * 64, once=True)
            for half in range(2):
                self._group(sums, places, at, first, run, half, rows, ahead)
        for (m, b, p), total in sums.items():
            emit(m, b, p, total.value)

    def _group(
        self, sums: dict[tuple[int, int, int], Register], places: list[tuple[int, int]], at: dict[int, Value],
        first: Value, run: Value, half: int, rows: int, ahead: Value | None,
    ) -> None:  # fmt: skip
        shape, lanes, dot = self.shape, self.isa.lanes, self._dot
        lines = 4 if shape.bits == 4 else 8
        group = [bind((first + m) * shape.groups + run * 2 + half) for m in range(rows)]
        corrections = [bind(self.corrections[group[m]]) for m in range(rows)]
        totals = {key: dot.begin(corrections[key[0]]) for key in sums}
        for line in range(lines):
            words = {}
            for b, p in places:
                place = at[b] + 64 + half * lines * 64 + line * 64 + p * 4 * lanes
                if ahead is not None and p == 0:
                    prefetch(self.w, place + ahead, once=True)
                words[b, p] = bind(T.reinterpret(f"int32x{lanes}", load(self.w, place, 4 * lanes)))
            if shape.bits == 8:
                self._step(totals, words, group, line * 4)
                continue
            mask = fill_int(0x0F0F0F0F, lanes)
            low = {place: bind(word & mask) for place, word in words.items()}
            self._step(totals, low, group, line * 4)
            high = {place: bind((word >> fill_int(4, lanes)) & mask) for place, word in words.items()}
            self._step(totals, high, group, 16 + line * 4)
        for b, p in places:
            scale = halves(self.w, at[b] + half * 32 + p * 2 * lanes, lanes)
            for m in range(rows):
                factor = bind(scale * fill(bind(self.scales[group[m]]), lanes))
                ints = to_float(dot.end(totals[m, b, p], corrections[m]), lanes)
                total = sums[m, b, p]
                total.value = fma(ints, factor, total.value, lanes)

    def _step(
        self, totals: dict[tuple[int, int, int], Value], words: dict[tuple[int, int], Value],
        group: list[Value], position: int,
    ) -> None:  # fmt: skip
        for m, row in enumerate(group):
            four = T.reinterpret("int32", load(self.codes, row * GROUP + position, 4))
            for (b, p), word in words.items():
                totals[m, b, p] = self._dot.step(totals[m, b, p], word, four)


def few_rows(isa: Isa, bits: int) -> int:
    """Rows of a tile when all rows are few; sums of floating-point weights take twice the registers."""
    return isa.few_rows if bits in ZERO else isa.rows


def over_rows(n: Value, isa: Isa, few: int, body: Callable[[Value, int, int], None]) -> None:
    """Call `body(first, rows, blocks)` so that tiles of `isa.rows` rows (`few`, if all rows are few) and one
    of the rest cover all `n`.

    Few rows take one block at a time: their time is that of reading weights, which is fastest in one stream.
    """
    tile = bind(T.Select(n > _FEW, T.int32(isa.rows), T.int32(few)))
    whole = bind(T.floordiv(n, tile))

    def tiles(rows: int, blocks: int) -> None:
        with T.serial(whole) as i:
            body(bind(i * rows), rows, blocks)

    if (isa.rows, isa.blocks) == (few, 1):
        tiles(isa.rows, 1)
    else:
        with T.If(n > _FEW):
            with T.Then():
                tiles(isa.rows, isa.blocks)
            with T.Else():
                tiles(few, 1)
    rest = bind(n - whole * tile)
    for rows in range(1, max(isa.rows, few)):
        with T.If(rest == rows), T.Then():
            body(bind(whole * tile), rows, 1)


def make_tile(isa: Isa, shape: MatmulShape, w: Buffer, x: tuple[Buffer, ...]) -> Tile | NeonTile | FloatTile:
    """The code of tiles for weights of `shape`."""
    if shape.bits not in ZERO:
        return FloatTile(isa, shape.inputs, shape.bits, w, x[0])
    if isa.bits == 128:
        return NeonTile(isa, shape.inputs, shape.bits, w, x)
    return Tile(isa, shape, w, x)


def matmul(isa: Isa, shape: MatmulShape, name: str, *, residual: bool = False, bias: bool = False) -> Any:
    """out[n, outputs] = x · w (+ bias) (+ residual).

    Arguments: x as its form has it (see `activations`), w uint8[...], (bias float32[outputs],)
    (residual float32[n, outputs],) out float32[n, outputs].
    """
    blocks, unit = shape.outputs // BLOCK, shape.units
    form = activations_for(shape.bits)
    with Kernel(name) as k:
        n = k.size("n")
        x = activation_buffers(k, form, n, shape.inputs)
        w = k.buffer("w", (shape.weight_bytes,), "uint8")
        b = k.buffer("bias", (shape.outputs,), "float32") if bias else None
        r = k.buffer("residual", (n, shape.outputs), "float32") if residual else None
        out = k.buffer("out", (n, shape.outputs), "float32")
        x = tuple(flat(one) for one in x)
        if r is not None:
            r = flat(r)
        out = flat(out)
        tile = make_tile(isa, shape, w, x)

        def one(first: Value, rows: int, block: Value, pair: int) -> None:
            def emit(m: int, b_: int, part: int, value: Value) -> None:
                column = bind((block + b_) * BLOCK + part * isa.lanes)
                if b is not None:
                    value = bind(value + load(b, column, isa.lanes))
                at = bind((first + m) * shape.outputs + column)
                if r is not None:
                    value = bind(value + load(r, at, isa.lanes))
                store(out, at, value, isa.lanes)

            tile.compute(block, first, rows, emit, pair)

        with T.parallel(blocks // unit) as i:

            def rows_of(first: Value, rows: int, pair: int) -> None:
                pair = pair if unit % pair == 0 else 1
                with T.serial(unit // pair) as j:
                    one(first, rows, bind(i * unit + j * pair), pair)

            over_rows(n, isa, few_rows(isa, shape.bits), rows_of)
    return k.function


def matmul_gated(isa: Isa, shape: MatmulShape, name: str, *, activation: str, bias: bool = False) -> Any:
    """activation(x · gate) * (x · up), in the form that the next product (of equal bits) takes.

    The weights' blocks alternate: 16 outputs of gate, the same 16 of up. Arguments: x, w,
    (bias float32[outputs],) the result; x and it as their form has it.
    """
    inner, lanes, parts = shape.outputs // 2, isa.lanes, BLOCK // isa.lanes
    form = activations_for(shape.bits)
    with Kernel(name) as k:
        n = k.size("n")
        x = activation_buffers(k, form, n, shape.inputs)
        w = k.buffer("w", (shape.weight_bytes,), "uint8")
        b = k.buffer("bias", (shape.outputs,), "float32") if bias else None
        y = activation_buffers(k, form, n, inner, "y_")
        x, y = tuple(flat(one) for one in x), tuple(flat(one) for one in y)
        tile = make_tile(isa, shape, w, x)
        with T.parallel(inner // GROUP) as i:
            scratch = T.alloc_buffer((max(isa.rows, isa.few_rows) * 4 * BLOCK,), "float32", scope="local")

            def rows_of(first: Value, rows: int, pair: int) -> None:
                with T.serial(4 // pair) as j:
                    block = bind(i * 4 + j * pair)

                    def emit(m: int, b_: int, part: int, value: Value) -> None:
                        place = bind((block + b_) * BLOCK + part * lanes)
                        if b is not None:
                            value = bind(value + load(b, place, lanes))
                        column = bind((j * pair + b_) * BLOCK + part * lanes)
                        store(scratch, bind(m * 4 * BLOCK + column), value, lanes)

                    tile.compute(block, first, rows, emit, pair)
                with T.serial(rows) as m:
                    # Blocks are gate, up, gate, up.
                    def gated(pair: Value, part: Value, m: Value = m) -> tuple[Value, Value]:
                        at = bind((m * 4 + pair * 2) * BLOCK + part * lanes)
                        gate, up = load(scratch, at, lanes), load(scratch, at + BLOCK, lanes)
                        return at, bind(activate(activation, gate, lanes) * up)

                    if parts <= _STRAIGHT:
                        values = [gated(pair, part)[1] for pair in range(2) for part in range(parts)]
                    else:
                        with T.serial(2) as pair, T.serial(parts) as part:
                            at, value = gated(pair, part)
                            store(scratch, at, value, lanes)
                        starts = [bind((m * 4 + pair * 2) * BLOCK) for pair in range(2)]
                        values = [load(scratch, at + p * lanes, lanes) for at in starts for p in range(parts)]
                    form.write(y, values, lanes, bind(first + m), i * GROUP, inner)

            over_rows(n, isa, few_rows(isa, shape.bits), rows_of)
    return k.function


def activate(kind: str, x: Value, lanes: int) -> Value:
    """silu(x), gelu(x), or gelu by its tanh form."""
    one = fill(1.0, lanes)
    if kind == "silu":
        return bind(x / (one + exp(bind(-x), lanes)))
    if kind == "gelu_tanh":
        # 0.5 x (1 + tanh(u)) = x / (1 + e**(-2u)), u = sqrt(2/pi) (x + 0.044715 x**3)
        cube = bind(x * x * x)
        u = bind(fill(1.5957691216057308, lanes) * (x + fill(0.044715, lanes) * cube))
        return bind(x / (one + exp(bind(-u), lanes)))
    if kind == "gelu":
        half = bind(x * fill(0.5, lanes))
        return bind(half + half * erf(bind(x * fill(0.7071067811865476, lanes)), lanes))
    raise ValueError(kind)

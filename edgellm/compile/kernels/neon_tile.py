"""Quantized activations × quantized weights on Arm: a tile of a few rows and one or two blocks of 16 outputs.

The weights lie as on any processor (`edgellm.quantize.cpu_layout`); a quarter of a line, which is four inputs
of four outputs, is a register. Three ways to multiply them, by what the processor has:

    smull   products of bytes, summed as int16 and widened: on every 64-bit Arm processor
    sdot    four products to a lane, with the activations in a lane of a register: nothing is broadcast
    i8mm    8 inputs of two outputs × 8 inputs of two rows; lines are zipped in pairs to get such operands

Sums of a group are exact integers in each of them, so all give the same bits, as other processors do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm.tirx import Shuffle
from tvm.tirx.script.builder import ir as T

from edgellm.compile.isa import Isa
from edgellm.compile.kernels.vector import (
    PREFETCH,
    Buffer,
    Register,
    Value,
    bind,
    call,
    fill,
    fill_int,
    fma,
    halves,
    load,
    prefetch,
    registers,
    to_float,
)
from edgellm.quantize.cpu_layout import BLOCK, RUN, run_bytes
from edgellm.quantize.formats import GROUP

LANES = 4
"""Outputs in a register, which are a part of a block."""
PARTS = BLOCK // LANES
_LINE = 64
_NEON = "llvm.aarch64.neon"
Emit = Callable[[int, int, Value, Value], None]
Totals = dict[tuple[int, int], Value]
"""int32 sums of a group by (row, part)."""


class NeonTile:
    """Code for such a tile.

    Args:
        inputs: of a row, whole runs. bits: of a weight, 4 or 8. w: the packed weights, uint8.
        x: codes, scales and corrections of the activations, flat.
    """

    def __init__(self, isa: Isa, inputs: int, bits: int, w: Buffer, x: tuple[Buffer, ...]) -> None:
        self._isa, self._bits, self._w = isa, bits, w
        self._codes, self._scales, self._corrections = x
        self._runs, self._groups = inputs // RUN, inputs // GROUP

    def compute(self, block: Value, first: Value, rows: int, emit: Emit, blocks: int = 1) -> None:
        """As `matmul.Tile.compute`."""
        together = next(size for size in (4, 2, 1) if size * rows <= max(rows, self._isa.vectors))
        for b in range(blocks):
            place = bind((block + b) * (self._runs * run_bytes(self._bits)))

            def some(start: Value, b: int = b, place: Value = place) -> None:
                self._sum(place, start, together, first, rows, lambda m, p, v: emit(m, b, start + p, v))

            if together == PARTS:
                some(0)
            else:
                # A loop, not more code: kernels compile in a fraction of the time.
                with T.serial(PARTS // together) as i:
                    some(bind(i * together))

    def _sum(
        self, place: Value, part: Value, parts: int, first: Value, rows: int,
        emit: Callable[[int, int, Value], None],
    ) -> None:  # fmt: skip
        """Sums of `parts` parts from `part` on of the block at `place`."""
        nbytes = run_bytes(self._bits)
        keys = [(m, p) for p in range(parts) for m in range(rows)]
        sums = dict(zip(keys, registers("float32", LANES, len(keys)), strict=True))
        for total in sums.values():
            total.value = fill(0.0, LANES)
        with T.serial(self._runs) as run:
            at = bind(place + run * nbytes)
            with T.If(first == 0), T.Then():
                # Later rows find the weights in the cache.
                for line in range(nbytes // _LINE):
                    prefetch(self._w, at + PREFETCH + line * _LINE)
            with T.serial(RUN // GROUP) as half:
                group = [bind((first + m) * self._groups + run * 2 + half) for m in range(rows)]
                scales = bind(at + half * (2 * BLOCK) + part * (2 * LANES))
                lines = bind(at + _LINE + half * (self._bits * _LINE) + part * (4 * LANES))
                self._group(sums, parts, lines, scales, group)
        for (m, p), total in sums.items():
            emit(m, p, total.value)

    def _group(
        self, sums: dict[tuple[int, int], Register], parts: int, lines: Value, scales: Value,
        group: list[Value],
    ) -> None:  # fmt: skip
        if self._isa.dot == "smull":
            totals = self._widening(parts, lines, group)
        elif self._isa.dot == "i8mm" and len(group) > 1:
            totals = self._matrix(parts, lines, group)
        else:
            totals = self._by_lane(parts, lines, group)
        for p in range(parts):
            scale = halves(self._w, scales + p * (2 * LANES), LANES)
            for m, row in enumerate(group):
                factor = bind(scale * fill(bind(self._scales[row]), LANES))
                total = sums[m, p]
                total.value = fma(to_float(totals[m, p], LANES), factor, total.value, LANES)

    def _by_lane(self, parts: int, lines: Value, group: list[Value]) -> Totals:
        """sdot, or usdot, which takes weights as they are stored."""
        signed = self._isa.dot == "sdot"
        name = f"{_NEON}.{'sdot' if signed else 'usdot'}.v4i32.v16i8"
        turned = signed and self._bits == 8
        codes = [self._row(row) for row in group]
        totals: Totals = {}
        for m, row in enumerate(group):
            start = fill_int(0, LANES) if turned else fill(bind(self._corrections[row]), LANES)
            totals.update({(m, p): start for p in range(parts)})
        for line in range(self._bits):
            for p in range(parts):
                words = self._unpacked(self._quarter(lines, line, p))
                for word, (quad, lane) in zip(words, self._positions(line), strict=True):
                    word = _signed(word) if turned else word
                    for m in range(len(group)):
                        x = T.reinterpret("int8x16", Shuffle([codes[m][quad]], _indices([lane] * LANES)))
                        totals[m, p] = call("int32x4", name, totals[m, p], word, x)
        return totals

    def _matrix(self, parts: int, lines: Value, group: list[Value]) -> Totals:
        """usmmla: [o0 o1] × [m0 m1] = [o0·m0 o0·m1 o1·m0 o1·m1]. An odd row at the end is taken twice."""
        pairs = [(m, min(m + 1, len(group) - 1)) for m in range(0, len(group), 2)]
        codes = [self._row(row) for row in group]
        corrections = [fill(bind(self._corrections[row]), LANES) for row in group]
        starts = {m: bind(_shuffle(corrections[m], corrections[n], (0, 4, 0, 4))) for m, n in pairs}
        sums = {(m, p, h): starts[m] for p in range(parts) for m, _ in pairs for h in range(2)}
        for line in range(0, self._bits, 2):
            operands = [
                [bind(_shuffle(codes[m][quad], codes[n][quad], _pair(lane))) for m, n in pairs]
                for quad, lane in self._positions(line)
            ]
            for p in range(parts):
                first, second = (self._quarter(lines, one, p) for one in (line, line + 1))
                for h, order in enumerate(((0, 4, 1, 5), (2, 6, 3, 7))):
                    words = self._unpacked(bind(_shuffle(first, second, order)))
                    for word, xs in zip(words, operands, strict=True):
                        for (m, _), x in zip(pairs, xs, strict=True):
                            sums[m, p, h] = call(
                                "int32x4", f"{_NEON}.usmmla.v4i32.v16i8", sums[m, p, h], word,
                                T.reinterpret("int8x16", x),
                            )  # fmt: skip
        totals: Totals = {}
        for p in range(parts):
            for m, n in pairs:
                both = sums[m, p, 0], sums[m, p, 1]
                totals[m, p] = bind(_shuffle(*both, (0, 2, 4, 6)))
                if n != m:
                    totals[n, p] = bind(_shuffle(*both, (1, 3, 5, 7)))
        return totals

    def _widening(self, parts: int, lines: Value, group: list[Value]) -> Totals:
        """smull: int16 holds the 8 products of a lane with 4 bits (8 * 15 * 127), and two with 8 bits."""
        codes = [self._row(row) for row in group]
        most = 8 if self._bits == 4 else 2
        narrow: dict[tuple[int, int], list[Value]] = {}
        wide: dict[tuple[int, int], list[Value]] = {}
        count = 0
        for line in range(self._bits):
            unpacked = [self._unpacked(self._quarter(lines, line, p)) for p in range(parts)]
            for index, (quad, lane) in enumerate(self._positions(line)):
                count += 1
                words = [_eights(_signed(one[index]) if self._bits == 8 else one[index]) for one in unpacked]
                for m in range(len(group)):
                    x = _eights(bind(Shuffle([codes[m][quad]], _indices([lane] * LANES))))
                    for p, word in enumerate(words):
                        products = [
                            call("int16x8", f"{_NEON}.smull.v8i16", *operands)
                            for operands in zip(word, x, strict=True)
                        ]
                        _add(narrow, (m, p), products)
                        if count % most == 0:
                            pairs = [
                                call("int32x4", f"{_NEON}.saddlp.v4i32.v8i16", one)
                                for one in narrow.pop((m, p))
                            ]
                            _add(wide, (m, p), pairs)
        totals: Totals = {}
        for m, row in enumerate(group):
            for p in range(parts):
                total = call("int32x4", f"{_NEON}.addp.v4i32", *wide[m, p])
                if self._bits == 4:
                    total = bind(total + fill(bind(self._corrections[row]), LANES))
                totals[m, p] = total
        return totals

    def _row(self, row: Value) -> list[Value]:
        """The group's 32 activations: 16 to an int32x4, four to a lane."""
        at = bind(row * GROUP)
        return [bind(T.reinterpret("int32x4", load(self._codes, at + 16 * i, 16))) for i in range(2)]

    def _positions(self, line: int) -> list[tuple[int, int]]:
        """Which activations meet each unpacked word of a line: (which 16 of the group, lane)."""
        return [(0, line), (1, line)] if self._bits == 4 else [divmod(line, 4)]

    def _quarter(self, lines: Value, line: int, part: int) -> Value:
        """Four bytes of each output of a part: int32x4."""
        return bind(
            T.reinterpret("int32x4", load(self._w, lines + (line * _LINE + part * 4 * LANES), 4 * LANES))
        )

    def _unpacked(self, word: Value) -> list[Value]:
        """Unsigned bytes: the low and the high half bytes, or all 8 bits as they are."""
        bytes_ = bind(T.reinterpret("uint8x16", word))
        if self._bits == 8:
            return [bytes_]
        return [bind(bytes_ & T.Broadcast(T.uint8(15), 16)), bind(bytes_ >> T.Broadcast(T.uint8(4), 16))]


def _signed(word: Value) -> Value:
    """code + 128 to code."""
    return bind(word ^ T.Broadcast(T.uint8(128), 16))


def _eights(word: Value) -> list[Value]:
    """The lower and the upper 8 of 16 bytes, as signed ones."""
    signed = bind(T.reinterpret("int8x16", word))
    return [bind(Shuffle([signed], _indices(range(8 * half, 8 * half + 8)))) for half in range(2)]


def _add(sums: dict[tuple[int, int], list[Value]], key: tuple[int, int], values: list[Value]) -> None:
    """Add to the vectors under `key`, or begin them."""
    before = sums.get(key)
    sums[key] = values if before is None else [bind(a + b) for a, b in zip(before, values, strict=True)]


def _pair(lane: int) -> tuple[int, ...]:
    """Two neighbouring lanes from `lane` on, of each of two vectors."""
    return lane, lane + 1, LANES + lane, LANES + lane + 1


def _shuffle(a: Value, b: Value, order: tuple[int, ...]) -> Value:
    """Lanes of a, then b, in this order."""
    return Shuffle([a, b], _indices(order))


def _indices(order: Sequence[int]) -> list[Value]:
    return [T.int32(index) for index in order]

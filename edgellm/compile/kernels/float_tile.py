"""Float32 activations × floating-point weights: a tile of a few rows and one or two blocks of 16 outputs.

Every output is two chains of fused multiply-adds, over its even and its odd inputs in order, added at the
end: with one row, one chain would wait for itself. The order is the same in every tile, so results do not
depend on the other rows.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm.tirx.script.builder import ir as T

from edgellm.compile.isa import Isa
from edgellm.compile.kernels.vector import (
    PREFETCH,
    Buffer,
    Value,
    bind,
    fill,
    fma,
    load,
    prefetch,
    registers,
    to_float,
)
from edgellm.quantize.cpu_layout import BLOCK, run_bytes, run_inputs

_CHAINS = 2
_LINE = 64


class FloatTile:
    """Code for such a tile.

    Args:
        inputs: of a row, whole runs. bits: 16 (fp16) or 32 (fp32). w: the packed weights, uint8.
        x: float32[n * inputs].
    """

    def __init__(self, isa: Isa, inputs: int, bits: int, w: Buffer, x: Buffer) -> None:
        self._isa, self._inputs, self._bits, self._w, self._x = isa, inputs, bits, w, x
        # Half of 16 registers or of 32 hold sums, and some more, since a line of weights needs but a few.
        self._sums = 24 if isa.bits != 256 else 12

    def compute(
        self, block: Value, first: Value, rows: int, emit: Callable[[int, int, int, Value], None], blocks: int
    ) -> None:
        """As `matmul.Tile.compute`."""
        places = [(b, p) for b in range(blocks) for p in range(BLOCK // self._isa.lanes)]
        together = max(1, self._sums // (rows * _CHAINS))
        for start in range(0, len(places), together):
            self._sum(places[start : start + together], block, first, rows, emit)

    def _sum(
        self, places: list[tuple[int, int]], block: Value, first: Value, rows: int,
        emit: Callable[[int, int, int, Value], None],
    ) -> None:  # fmt: skip
        lanes, inputs = self._isa.lanes, run_inputs(self._bits)
        runs, nbytes = self._inputs // inputs, run_bytes(self._bits)
        keys = [(m, *place, chain) for place in places for m in range(rows) for chain in range(_CHAINS)]
        sums = dict(zip(keys, registers("float32", lanes, len(keys)), strict=True))
        for total in sums.values():
            total.value = fill(0.0, lanes)
        # Large matrices of fp32 are beyond 2 GiB.
        base = bind(T.cast(block, "int64") * (runs * nbytes))
        row = [bind((first + m) * self._inputs) for m in range(rows)]
        with T.serial(runs) as run:
            at = {b: bind(base + (b * runs + run) * nbytes) for b in dict.fromkeys(b for b, _ in places)}
            with T.If(first == 0), T.Then():
                # Later rows find the weights in the cache.
                for start in at.values():
                    for line in range(nbytes // _LINE):
                        prefetch(self._w, start + PREFETCH + line * _LINE, once=True)
            for i in range(inputs):
                weights = {place: self._weights(at[place[0]], i, place[1]) for place in places}
                for m in range(rows):
                    x = fill(bind(self._x[row[m] + run * inputs + i]), lanes)
                    for place, weight in weights.items():
                        total = sums[m, *place, i % _CHAINS]
                        total.value = fma(x, weight, total.value, lanes)
        for m in range(rows):
            for b, p in places:
                emit(m, b, p, bind(sums[m, b, p, 0].value + sums[m, b, p, 1].value))

    def _weights(self, run: Value, i: int, part: int) -> Value:
        """Of input `i` of the run at byte `run`, for the outputs of `part`."""
        lanes, size = self._isa.lanes, self._bits // 8
        data = load(self._w, run + (i * BLOCK + part * lanes) * size, lanes * size)
        return to_float(T.reinterpret(f"float{self._bits}x{lanes}", data), lanes)

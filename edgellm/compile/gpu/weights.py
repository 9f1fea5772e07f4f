"""How a thread reads a piece of a matrix (see `edgellm.quantize.gpu_layout`) as float32 numbers."""

from __future__ import annotations

from typing import Any

from tvm.tirx.script.builder import ir as T

from edgellm.compile.gpu.kernel import Buffer, KernelBuilder, Value, bind, floats, half_bits, lane
from edgellm.quantize.gpu_layout import GROUP, ZERO, piece_inputs


class Matrix:
    """A matrix argument: words, and scales where its weights are quantized."""

    def __init__(self, k: KernelBuilder, outputs: int, inputs: int, bits: int) -> None:
        self.outputs, self.inputs, self.bits = outputs, inputs, bits
        self.pieces = GROUP // piece_inputs(bits)
        """Of a group of 32 inputs."""
        self.groups = inputs // GROUP
        self._words = k.buffer("w", self.groups * self.pieces * outputs, "uint32x4")
        self._scales = k.buffer("s", self.groups * outputs // 2, "uint32") if bits in ZERO else None

    def group(self, group: Value, output: Value) -> Group:
        """The 32 weights of one output, loaded here."""
        base = group * (self.pieces * self.outputs) + output
        words = [bind(self._words[base + piece * self.outputs]) for piece in range(self.pieces)]
        scale = None
        if self._scales is not None:
            pair = bind(self._scales[group * (self.outputs // 2) + T.shift_right(output, T.int32(1))])
            scale = half_bits(pair, T.bitwise_and(output, T.int32(1)))
        return Group(words, scale, self.bits)


class Group:
    """32 weights of one output."""

    def __init__(self, words: list[Value], scale: Value | None, bits: int) -> None:
        self._words, self.scale, self._bits = words, scale, bits

    def weight(self, position: int) -> Value:
        """Weight at `position`, to be multiplied by `scale` (None: as it is)."""
        each = 32 // self._bits
        piece, within = divmod(position, 4 * each)
        word, slot = divmod(within, each)
        bits = lane(self._words[piece], word)
        if self._bits == 32:
            return T.reinterpret("float32", bits)
        if self._bits == 16:
            return half_bits(bits, bool(slot))
        mask, zero = T.uint32((1 << self._bits) - 1), ZERO[self._bits]
        code = T.bitwise_and(T.shift_right(bits, T.uint32(slot * self._bits)), mask)
        return floats(T.cast(code, "int32") - zero)


def dot(group: Group, x: Buffer, at: Value) -> Any:
    """Sum of the group's weights times 32 numbers of x (elements are four float32) from element `at` on."""
    total = None
    for four in range(GROUP // 4):
        values = bind(x[at + four])
        part = sum_of([group.weight(4 * four + j) * lane(values, j) for j in range(4)])
        total = part if total is None else bind(total + part)
    return total if group.scale is None else bind(total * group.scale)


def sum_of(values: list[Value]) -> Value:
    """The values' sum, in order."""
    total = values[0]
    for value in values[1:]:
        total = total + value
    return bind(total)

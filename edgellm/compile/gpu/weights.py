"""How a thread reads a piece of a matrix (see `edgellm.quantize.gpu_layout`)."""

from __future__ import annotations

from tvm.tirx.script.builder import ir as T

from edgellm.compile.gpu.kernel import KernelBuilder, Value, bind, floats, half_bits, lane
from edgellm.quantize.formats import GROUP, ZERO
from edgellm.quantize.gpu_layout import piece_inputs

PART = 8
"""Inputs that `Matrix.part` reads."""


class Matrix:
    """A matrix argument: words, and scales where its weights are quantized."""

    def __init__(
        self,
        k: KernelBuilder,
        outputs: int,
        inputs: int,
        bits: int,
        *,
        half: bool = False,
        parts: bool = False,
    ) -> None:
        """Take the arguments.

        Args:
            half: fp16 numbers are read as such, which takes a device with fp16 arithmetic.
            parts: it is read by `part`, not by `group`.
        """
        self.outputs, self.inputs, self.bits = outputs, inputs, bits
        self.pieces = GROUP // piece_inputs(bits)
        """Of a group of 32 inputs."""
        self.groups = inputs // GROUP
        self._half = half
        # An element of the buffer holds what is read at a time.
        self._words = min(4, PART * bits // 32) if parts else 4
        count = self.groups * self.pieces * outputs * (4 // self._words)
        self._w = k.buffer("w", count, "uint32" if self._words == 1 else f"uint32x{self._words}")
        self._s = None
        if bits in ZERO:
            scales = self.groups * outputs
            self._s = k.buffer("s", scales, "float16") if half else k.buffer("s", scales // 2, "uint32")

    def group(self, group: Value, output: Value) -> Weights:
        """The 32 weights of one output, loaded here."""
        base = group * (self.pieces * self.outputs) + output
        loaded = [bind(self._w[base + piece * self.outputs]) for piece in range(self.pieces)]
        return Weights(
            [lane(one, i) for one in loaded for i in range(4)], self.scale(group, output), self.bits
        )

    def part(self, group: Value, part: Value, output: Value) -> Weights:
        """8 weights of one output, those from `part * 8` on in the group, loaded here."""
        words = PART * self.bits // 32
        first = bind(part * words)
        piece, word = bind(T.floordiv(first, 4)), bind(T.floormod(first, 4))
        at = bind((group * self.pieces + piece) * self.outputs + output)
        if self._words == 4:
            loaded = [bind(self._w[at + more * self.outputs]) for more in range(words // 4)]
            return Weights(
                [lane(one, i) for one in loaded for i in range(4)], self.scale(group, output), self.bits
            )
        one = bind(self._w[at * (4 // self._words) + T.floordiv(word, self._words)])
        found = [one] if self._words == 1 else [lane(one, i) for i in range(self._words)]
        return Weights(found, self.scale(group, output), self.bits)

    def scale(self, group: Value, output: Value) -> Value | None:
        """What a group's weights are multiplied with, float32; None: nothing."""
        if self._s is None:
            return None
        if self._half:
            return bind(floats(self._s[group * self.outputs + output]))
        pair = bind(self._s[group * (self.outputs // 2) + T.shift_right(output, T.int32(1))])
        return half_bits(pair, T.bitwise_and(output, T.int32(1)))


class Weights:
    """Some weights of one output, in 32-bit words."""

    def __init__(self, words: list[Value], scale: Value | None, bits: int) -> None:
        self._words, self.scale, self._bits = words, scale, bits

    def weight(self, position: int) -> Value:
        """Weight at `position` as float32, to be multiplied by `scale` (None: as it is)."""
        word, slot = divmod(position, 32 // self._bits)
        bits = self._words[word]
        if self._bits == 32:
            return T.reinterpret("float32", bits)
        if self._bits == 16:
            return half_bits(bits, bool(slot))
        return self._code(bits, slot * self._bits)

    def _code(self, word: Value, shift: int) -> Value:
        """The code at bit `shift` as a float32 number, exactly.

        There is no conversion in it, since those are slow on some GPUs: a code among the low 23 bits of a
        word is the mantissa of 2**23 + code * 2**shift.
        """
        if shift >= 16:
            word, shift = T.shift_right(word, T.uint32(16)), shift - 16
        mask = T.uint32(((1 << self._bits) - 1) << shift)
        value = T.reinterpret("float32", T.bitwise_or(T.bitwise_and(word, mask), T.uint32(0x4B000000)))
        step = 2.0**-shift
        return value * T.float32(step) - T.float32(2.0**23 * step + ZERO[self._bits])

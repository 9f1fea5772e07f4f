"""Dot products of unsigned weight bytes and signed activation bytes, four by four, on x86-64.

Weights are stored as code + zero, an unsigned byte; what the shift adds to a sum is taken off again with
`correction` = -zero * sum(activations), prepared when the activations are quantized.
"""

from __future__ import annotations

from typing import Any, Protocol

from tvm.tirx.script.builder import ir as T

from edgellm.compile.isa import Isa
from edgellm.compile.kernels.vector import Value, bind, call, fill, fill_int


class Dot(Protocol):
    """Sums over one group of 32 positions. Lanes are int32 sums of `lanes` weight rows."""

    dtype: str
    """Of the running sum."""
    lanes: int
    """Of the running sum."""

    def begin(self, correction: Value) -> Value: ...

    def step(self, total: Value, weights: Value, activations: Value) -> Value:
        """Add four products in each lane.

        Args:
            weights: int32 lanes of four unsigned bytes. activations: one int32 of four signed bytes.
        """
        ...

    def end(self, total: Value, correction: Value) -> Value: ...


class Vnni:
    """vpdpbusd: one instruction."""

    dtype = "int32"

    def __init__(self, isa: Isa, weight_bits: int) -> None:
        self.lanes = isa.lanes
        self._name = f"llvm.x86.avx512.vpdpbusd.{isa.bits}"

    def begin(self, correction: Value) -> Value:
        return fill(correction, self.lanes)

    def step(self, total: Value, weights: Value, activations: Value) -> Value:
        return call(
            f"int32x{self.lanes}", self._name, total,
            T.reinterpret(f"uint8x{4 * self.lanes}", weights),
            T.reinterpret(f"int8x{4 * self.lanes}", fill(activations, self.lanes)),
        )  # fmt: skip

    def end(self, total: Value, correction: Value) -> Value:
        return total


class Maddubs4:
    """AVX2, 4-bit weights: int16 sums over a group, widened once (8 * 15 * 127 * 2 fits into int16)."""

    dtype = "int16"

    def __init__(self, isa: Isa) -> None:
        self._isa = isa
        self.lanes = 2 * isa.lanes

    def begin(self, correction: Value) -> Value:
        return T.Broadcast(T.int16(0), self.lanes)

    def step(self, total: Value, weights: Value, activations: Value) -> Value:
        pairs = call(
            f"int16x{self.lanes}", "llvm.x86.avx2.pmadd.ub.sw",
            T.reinterpret(f"uint8x{2 * self.lanes}", weights),
            T.reinterpret(f"int8x{2 * self.lanes}", fill(activations, self._isa.lanes)),
        )  # fmt: skip
        return bind(total + pairs)

    def end(self, total: Value, correction: Value) -> Value:
        ones = T.Broadcast(T.int16(1), self.lanes)
        sums = call(f"int32x{self._isa.lanes}", "llvm.x86.avx2.pmadd.wd", total, ones)
        return bind(sums + fill(correction, self._isa.lanes))


class Maddubs8:
    """AVX2, 8-bit weights: magnitudes of weights times activations of their sign, which cannot saturate."""

    dtype = "int32"

    def __init__(self, isa: Isa) -> None:
        self.lanes = isa.lanes

    def begin(self, correction: Value) -> Value:
        return fill_int(0, self.lanes)

    def step(self, total: Value, weights: Value, activations: Value) -> Value:
        bytes_, words = f"int8x{4 * self.lanes}", f"int16x{2 * self.lanes}"
        signed = T.reinterpret(bytes_, bind(weights ^ fill_int(-0x7F7F7F80, self.lanes)))
        magnitude = call(bytes_, "llvm.x86.avx2.psign.b", signed, signed)
        spread = T.reinterpret(bytes_, fill(activations, self.lanes))
        turned = call(bytes_, "llvm.x86.avx2.psign.b", spread, signed)
        pairs = call(words, "llvm.x86.avx2.pmadd.ub.sw", magnitude, turned)
        ones = T.Broadcast(T.int16(1), 2 * self.lanes)
        return bind(total + call(f"int32x{self.lanes}", "llvm.x86.avx2.pmadd.wd", pairs, ones))

    def end(self, total: Value, correction: Value) -> Value:
        return total


def make_dot(isa: Isa, weight_bits: int) -> Any:
    """The dot product of `isa` for weights of 4 or 8 bits."""
    if isa.dot == "vnni":
        return Vnni(isa, weight_bits)
    return Maddubs4(isa) if weight_bits == 4 else Maddubs8(isa)

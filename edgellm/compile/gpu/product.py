"""What a product with a weight matrix is, and what happens to its results."""

from __future__ import annotations

from dataclasses import dataclass

from edgellm.compile.gpu.activate import activate
from edgellm.compile.gpu.kernel import KernelBuilder, Value, bind, narrow, store

TILE = 64
"""Outputs of a workgroup."""


@dataclass(frozen=True)
class Product:
    """y = x · w: `outputs` (a multiple of 64) and `inputs` (of 32), bits of a weight, and what comes with it.

    Attributes:
        gated: outputs alternate between gate and up; the result is activation(gate) * up, half as wide.
        norm: x is normed first, with this epsilon.
        half: the program's arithmetic is fp16. source, result: types of x and y.
        first, width: these are outputs `first` to `first + outputs` of `width` (0: all there are).
    """

    outputs: int
    inputs: int
    bits: int
    bias: bool = False
    residual: bool = False
    gated: str | None = None
    norm: float | None = None
    half: bool = False
    source: str = "float32"
    result: str = "float32"
    first: int = 0
    width: int = 0

    @property
    def row(self) -> int:
        """Numbers in a row of y."""
        width = self.width or self.outputs
        return width // 2 if self.gated else width


class Ending:
    """The last arguments of a product's kernel: bias and residual, if any, and y."""

    def __init__(self, k: KernelBuilder, p: Product, n: Value) -> None:
        self._p = p
        self._bias = k.buffer("bias", p.width or p.outputs, "float32") if p.bias else None
        self._residual = k.buffer("residual", n * p.row, "float32") if p.residual else None
        self._y = k.buffer("y", n * p.row, p.result, "write")

    def store(self, row: Value, output: Value, value: Value) -> None:
        """Finish an output's sum: bias, residual, y."""
        at = bind(row * self._p.row + (output + self._p.first))
        value = self._biased(output, value)
        if self._residual is not None:
            value = bind(value + self._residual[at])
        store(self._y, at, narrow(value, self._p.result))

    def store_gated(self, row: Value, output: Value, gate: Value, up: Value) -> None:
        """Finish a pair of outputs, of which `output`, even, is the first."""
        assert self._p.gated is not None
        gate, up = self._biased(output, gate), self._biased(output + 1, up)
        at = row * self._p.row + (output + self._p.first) // 2
        store(self._y, at, narrow(bind(activate(self._p.gated, gate) * up), self._p.result))

    def _biased(self, output: Value, value: Value) -> Value:
        return value if self._bias is None else bind(value + self._bias[output + self._p.first])

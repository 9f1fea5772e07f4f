"""How activations travel to the product that takes them in: as int8 groups to quantized weights, as float32
to others. Kernels that make them (norm, gate, attention) write through this.
"""

from __future__ import annotations

from typing import Any, Protocol

from edgellm.compile.kernels.quantize import quantize_group
from edgellm.compile.kernels.vector import Buffer, Kernel, Value, bind, store
from edgellm.quantize.cpu_layout import RUN
from edgellm.quantize.formats import GROUP, ZERO, padded


class Activations(Protocol):
    """A form of rows of activations: one or more arrays."""

    granule: int
    """Neighbours that `write` takes: a multiple of this."""

    def arrays(self, rows: Any, width: int) -> list[tuple[str, tuple[Any, int], str]]:
        """Name, shape and dtype of the arrays that hold `rows` rows of `width` numbers."""
        ...

    def write(
        self, out: tuple[Buffer, ...], values: list[Value], lanes: int, row: Value, column: Value, width: int
    ) -> None:
        """Write neighbours of a row.

        Args:
            out: the arrays, flat. values: the numbers as vectors of `lanes`.
            column: of the first, a multiple of the granule. width: of the rows.
        """
        ...


class Int8Activations:
    """int8 codes, and for every 32 of them a scale and a correction; rows are padded to a multiple of 64."""

    granule = GROUP

    def __init__(self, zero: int) -> None:
        self._zero = zero

    def arrays(self, rows: Any, width: int) -> list[tuple[str, tuple[Any, int], str]]:
        width = padded(width, RUN)
        return [
            ("codes", (rows, width), "int8"),
            ("scales", (rows, width // GROUP), "float32"),
            ("corrections", (rows, width // GROUP), "int32"),
        ]

    def write(
        self, out: tuple[Buffer, ...], values: list[Value], lanes: int, row: Value, column: Value, width: int
    ) -> None:
        codes, scales, corrections = out
        vectors = GROUP // lanes
        for start in range(0, len(values), vectors):
            group = bind(column // GROUP + start // vectors)
            part = values[start : start + vectors]
            quantize_group(part, lanes, self._zero, (codes, scales, corrections), row, group, width)


class Float32Activations:
    """float32, as they are."""

    granule = 16

    def arrays(self, rows: Any, width: int) -> list[tuple[str, tuple[Any, int], str]]:
        return [("values", (rows, width), "float32")]

    def write(
        self, out: tuple[Buffer, ...], values: list[Value], lanes: int, row: Value, column: Value, width: int
    ) -> None:
        at = bind(row * width + column)
        for index, value in enumerate(values):
            store(out[0], at + index * lanes, value, lanes)


def activations_for(bits: int) -> Activations:
    """The form that weights of so many bits take."""
    return Int8Activations(ZERO[bits]) if bits in ZERO else Float32Activations()


def activation_buffers(
    k: Kernel, form: Activations, rows: Value, width: int, prefix: str = ""
) -> tuple[Buffer, ...]:
    """Arguments of a kernel that are such arrays."""
    return tuple(k.buffer(prefix + name, shape, dtype) for name, shape, dtype in form.arrays(rows, width))

"""Memory between launches: values of a step share slots. Needs no TVM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgellm.compile.plan.plan import DTYPE_BYTES, Buffer, Dtype
from edgellm.compile.plan.sizes import Expr, evaluate, largest, mul

_UNKNOWN = 64
"""Taken for a size that the host chooses, where slots are picked. Their bytes hold for every choice."""


@dataclass
class Value:
    """A buffer of the host (a name), or something computed, `count` rows of `row_bytes`, that gets a slot.

    Attributes:
        born, last: indices of the launches that write it first and use it last.
    """

    name: str
    count: Expr = 0
    row_bytes: int = 0
    born: int = 0
    last: int = 0


@dataclass(frozen=True)
class _Need:
    """Bytes that a slot must have in steps of up to `most` tokens; None: in all."""

    count: str
    expr: list[Expr]
    row_bytes: int
    most: int | None

    def covers(self, other: _Need) -> bool:
        longer = self.most is None or (other.most is not None and self.most >= other.most)
        return longer and self.count == other.count and self.row_bytes >= other.row_bytes

    def bytes(self) -> Expr:
        count = self.expr[0] if self.most is None else _bounded(self.expr[0], self.most)
        return mul(count, self.row_bytes)


@dataclass
class Slots:
    """The slots of a program, shared by its routines: they grow and get company as needed.

    Attributes:
        sizes: largest values of the sizes; 0: not known.
    """

    sizes: Mapping[str, int]
    _bytes: list[int] = field(default_factory=list)
    _needs: list[list[_Need]] = field(default_factory=list)

    def place(self, values: Sequence[Value], most: int) -> None:
        """Give every value of a routine for steps of up to `most` tokens a slot.

        A value takes the free slot that needs to grow least. Values that live at the same time never share
        one, and a launch's results are never in the slots of what it reads. Routines for the longest steps go
        first: the others find room in what those need.

        Args:
            values: in the order in which they are born.
        """
        sizes = {name: size or _UNKNOWN for name, size in self.sizes.items()}
        sizes |= {name: min(most, sizes[name]) for name in ("n", "r") if name in sizes}
        everything = most >= self.sizes["n"]
        busy: dict[int, int] = {}
        for value in values:
            size = evaluate(value.count, sizes) * value.row_bytes
            need = _Need(repr(value.count), [value.count], value.row_bytes, None if everything else most)
            free = [i for i in range(len(self._bytes)) if busy.get(i, -1) < value.born]

            def cost(i: int, size: int = size, need: _Need = need) -> tuple[int, bool, int]:
                covered = any(one.covers(need) for one in self._needs[i])
                return max(0, size - self._bytes[i]), not covered, self._bytes[i]

            best = min(free, key=cost, default=None)
            if best is None:
                best = len(self._bytes)
                self._bytes.append(0)
                self._needs.append([])
            self._bytes[best] = max(self._bytes[best], size)
            if not any(one.covers(need) for one in self._needs[best]):
                self._needs[best] = [one for one in self._needs[best] if not need.covers(one)] + [need]
            busy[best] = value.last
            value.name = f"slot{best}"

    def buffers(self) -> list[Buffer]:
        """The slots as buffers of a plan."""
        found = []
        for index, needs in enumerate(self._needs):
            size = needs[0].bytes()
            for need in needs[1:]:
                size = largest(size, need.bytes())
            found.append(Buffer(f"slot{index}", "slot", "uint8", (size,)))
        return found


def value_bytes(width: int, dtype: Dtype) -> int:
    """Of a row of `width` numbers."""
    return width * DTYPE_BYTES[dtype]


def _bounded(expr: Expr, most: int) -> Expr:
    """`expr` in a step of at most `most` tokens, which has at most as many rows of logits."""
    if isinstance(expr, list):
        return [expr[0], _bounded(expr[1], most), _bounded(expr[2], most)]
    return ["min", expr, most] if expr in ("n", "r") else expr

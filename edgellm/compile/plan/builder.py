"""Building a plan: launches are noted in order, and values between them share slots of memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from edgellm.compile.gpu.kernel import GpuKernel
from edgellm.compile.plan.plan import Argument, Buffer, Launch, Routine
from edgellm.compile.plan.sizes import Expr, evaluate

_BYTES = {"float32": 4, "int32": 4, "float16": 2, "uint32": 4}


@dataclass
class Value:
    """A buffer of the host (a name), or something computed that gets a slot."""

    name: str
    bytes: int = 0
    """Of a computed value, at the largest sizes."""
    born: int = 0
    last: int = 0


@dataclass
class _Noted:
    kernel: int
    arguments: list[Value]
    grid: tuple[Expr, Expr, Expr]


@dataclass
class KernelTable:
    """Kernels by name; each is made once, for all routines."""

    kernels: list[GpuKernel] = field(default_factory=list)
    _index: dict[str, int] = field(default_factory=dict)

    def index(self, name: str, make: Callable[[str], GpuKernel]) -> int:
        if name not in self._index:
            self._index[name] = len(self.kernels)
            self.kernels.append(make(name))
        return self._index[name]


class RoutineBuilder:
    """One straight line of launches."""

    def __init__(self, table: KernelTable, most: int, sizes: dict[str, int]) -> None:
        self._table, self._most = table, most
        self._sizes = sizes | {"n": most, "r": min(most, sizes["r"])}
        self._launches: list[_Noted] = []
        self._values: list[Value] = []

    def value(self, count: Expr, width: int, dtype: str = "float32") -> Value:
        """Something to be computed: `count` rows of `width` numbers."""
        size = evaluate(count, self._sizes) * width * _BYTES[dtype]
        value = Value("", size, born=len(self._launches))
        self._values.append(value)
        return value

    def launch(self, name: str, make: Callable[[str], GpuKernel], arguments: Sequence[Value]) -> None:
        """Note a launch of the kernel `name`, made the first time."""
        index = self._table.index(name, make)
        for value in arguments:
            value.last = len(self._launches)
        self._launches.append(_Noted(index, list(arguments), self._table.kernels[index].grid))

    def finish(self, slots: list[int]) -> Routine:
        """Give every value a slot. `slots` are their bytes so far; they grow and get company as needed.

        A value takes the free slot that needs to grow least. Values that live at the same time never share
        one, and a launch's results are never in the slots of what it reads.
        """
        busy: dict[int, int] = {}
        for value in self._values:
            free = [i for i in range(len(slots)) if busy.get(i, -1) < value.born]
            best = min(free, key=lambda i: (max(0, value.bytes - slots[i]), slots[i]), default=None)
            if best is None:
                best = len(slots)
                slots.append(0)
            slots[best] = max(slots[best], value.bytes)
            busy[best] = value.last
            value.name = f"slot{best}"
        launches = tuple(
            Launch(one.kernel, tuple(Argument(value.name) for value in one.arguments), one.grid)
            for one in self._launches
        )
        return Routine(self._most, launches)


def slot_buffers(slots: Sequence[int]) -> list[Buffer]:
    """The slots as buffers of a plan."""
    return [Buffer(f"slot{i}", "slot", "", -(-size // 256) * 256) for i, size in enumerate(slots)]

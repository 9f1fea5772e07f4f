"""Building a plan: kernels are made once, launches are noted in order, and what they compute gets slots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from edgellm.compile.gpu.kernel import GpuKernel
from edgellm.compile.plan.plan import Dtype, Launch, Routine
from edgellm.compile.plan.sizes import Expr
from edgellm.compile.plan.slots import Slots, Value, value_bytes

__all__ = ["KernelTable", "RoutineBuilder", "Slots", "Value"]


@dataclass
class KernelTable:
    """Kernels by name; each is made once, for all routines."""

    _kernels: dict[str, GpuKernel] = field(default_factory=dict)

    @property
    def kernels(self) -> list[GpuKernel]:
        """In the order in which they were made."""
        return list(self._kernels.values())

    def add(self, name: str, make: Callable[[str], GpuKernel]) -> None:
        """Make the kernel `name`, unless it is there."""
        if name not in self._kernels:
            self._kernels[name] = make(name)


class RoutineBuilder:
    """One straight line of launches, for steps of up to `most` tokens."""

    def __init__(self, table: KernelTable, most: int) -> None:
        self._table, self._most = table, most
        self._launches: list[tuple[str, tuple[Value, ...]]] = []
        self._values: list[Value] = []

    def value(self, count: Expr, width: int, dtype: Dtype = "float32") -> Value:
        """Something to be computed by the next launch: `count` rows of `width` numbers."""
        value = Value("", count, value_bytes(width, dtype), born=len(self._launches))
        self._values.append(value)
        return value

    def launch(self, name: str, make: Callable[[str], GpuKernel], arguments: Sequence[Value]) -> None:
        """Note a launch of the kernel `name`, made the first time."""
        self._table.add(name, make)
        for value in arguments:
            value.last = len(self._launches)
        self._launches.append((name, tuple(arguments)))

    def finish(self, slots: Slots) -> Routine:
        """Give every value a slot."""
        slots.place(self._values, self._most)
        launches = (Launch(name, tuple(one.name for one in values)) for name, values in self._launches)
        return Routine(self._most, tuple(launches))

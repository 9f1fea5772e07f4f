"""GPU kernels written with TVMScript's builder: one source for WGSL, OpenCL C, Metal and CUDA.

Memory is addressed by plain indices; vectors are elements of vector buffers, so that a load of four words is
one load in every language. Threads are bound by `grid`, whose extent is an expression that the plan keeps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from tvm.script.ir_builder import IRBuilder
from tvm.tirx import Shuffle, Var
from tvm.tirx.script.builder import ir as T

from edgellm.compile.plan.sizes import Expr
from edgellm.quantize.formats import LARGEST_HALF

Value = Any
Buffer = Any
Access = Literal["read", "write", "readwrite"]
_BLOCKS = ("blockIdx.x", "blockIdx.y", "blockIdx.z")
_THREADS = ("threadIdx.x", "threadIdx.y", "threadIdx.z")


@dataclass(frozen=True)
class Argument:
    """A buffer that a kernel takes: its name, its use, and its elements as the kernel sees them."""

    name: str
    access: Access
    dtype: str


@dataclass(frozen=True)
class GpuKernel:
    """A finished kernel.

    Attributes:
        function: TVM's. arguments: its buffers in order. sizes: names of the sizes it takes, in order.
        grid: workgroups, x y z. threads: of a workgroup, x y z. shared_bytes: of a workgroup's memory.
    """

    name: str
    function: Any
    arguments: tuple[Argument, ...]
    sizes: tuple[str, ...]
    grid: tuple[Expr, Expr, Expr]
    threads: tuple[int, int, int]
    shared_bytes: int


class KernelBuilder:
    """A kernel under construction: `with KernelBuilder("f") as k: …`, then `k.kernel`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._builder = IRBuilder()
        self._arguments: list[Argument] = []
        self._sizes: dict[str, Value] = {}
        self._shared = 0
        self._grid: tuple[Expr, Expr, Expr] = (1, 1, 1)
        self._threads = (1, 1, 1)

    def __enter__(self) -> KernelBuilder:
        self._builder.__enter__()
        self._frame = T.prim_func()
        self._frame.__enter__()
        T.func_name(self.name)
        T.func_attr({"global_symbol": self.name, "tirx.noalias": True, "tirx.is_scheduled": True})
        return self

    def __exit__(self, *error: Any) -> None:
        self._frame.__exit__(*error)
        self._builder.__exit__(*error)
        if error[0] is None:
            self.kernel = GpuKernel(
                self.name, self._builder.get(), tuple(self._arguments), tuple(self._sizes), self._grid,
                self._threads, self._shared,
            )  # fmt: skip

    def size(self, name: str) -> Value:
        """A size of the step, int32."""
        if name not in self._sizes:
            self._sizes[name] = T.arg(name, Var(name, "int32"))
        return self._sizes[name]

    def buffer(self, name: str, extent: Value, dtype: str, access: Access = "read") -> Buffer:
        """An argument: `extent` elements."""
        # The code generators sort arguments by name: these sort as they stand.
        argument = f"b{len(self._arguments)}_{name}"
        self._arguments.append(Argument(name, access, dtype))
        return T.arg(argument, T.buffer((extent,), dtype))

    @contextmanager
    def launch(
        self, grid: tuple[Expr, ...], threads: tuple[int, ...]
    ) -> Iterator[tuple[list[Value], list[Value]]]:
        """Block and thread indices, x first."""
        extents = [self._value(one) for one in grid]
        with ExitStack() as stack:
            blocks = [
                stack.enter_context(T.launch_thread(tag, extent))
                for tag, extent in zip(_BLOCKS, extents, strict=False)
            ]
            places = [
                stack.enter_context(T.launch_thread(tag, extent))
                for tag, extent in zip(_THREADS, threads, strict=False)
            ]
            yield blocks, places
        x, y, z, *_ = (*grid, 1, 1)
        self._grid = (x, y, z)
        wide, high, deep, *_ = (*threads, 1, 1)
        self._threads = (wide, high, deep)

    def shared(self, count: int, dtype: str = "float32") -> Buffer:
        """Memory of the workgroup: `count` numbers, or vectors such as float32x4."""
        scalar, _, lanes = dtype.partition("x")
        self._shared += count * (2 if scalar == "float16" else 4) * int(lanes or 1)
        return T.alloc_buffer((count,), dtype, scope="shared")

    def _value(self, expr: Expr) -> Value:
        if isinstance(expr, int):
            return expr
        if isinstance(expr, str):
            return self.size(expr)
        operator, left, right = expr[0], self._value(expr[1]), self._value(expr[2])
        if operator == "/":
            return T.floordiv(left + (right - 1), right)
        make = {"+": lambda a, b: a + b, "*": lambda a, b: a * b, "min": T.min, "max": T.max}[operator]
        return make(left, right)


class Cell:
    """A variable of a thread."""

    def __init__(self, dtype: str, buffer: Buffer | None = None, at: int = 0) -> None:
        self._buffer = T.alloc_buffer((1,), dtype, scope="local") if buffer is None else buffer
        self._at = at

    @property
    def value(self) -> Value:
        return self._buffer[self._at]

    @value.setter
    def value(self, value: Value) -> None:
        T.buffer_store(self._buffer, value, [self._at])


def cells(count: int, dtype: str = "float32") -> list[Cell]:
    """Variables of a thread, side by side."""
    buffer = T.alloc_buffer((count,), dtype, scope="local")
    return [Cell(dtype, buffer, index) for index in range(count)]


def bind(value: Value) -> Value:
    """Compute `value` here, once."""
    return T.Bind(value)


def lane(vector: Value, index: int) -> Value:
    """One component of a vector."""
    return Shuffle([vector], [T.int32(index)])


def vector(values: Sequence[Value]) -> Value:
    """A vector of these numbers."""
    return bind(Shuffle(list(values), [T.int32(index) for index in range(len(values))]))


def store(buffer: Buffer, at: Value, value: Value) -> None:
    T.buffer_store(buffer, value, [at])


def barrier() -> None:
    """Wait for the workgroup, and see what it wrote to shared memory."""
    T.evaluate(T.tvm_storage_sync("shared"))


def workgroup_sum(k_shared: Buffer, place: Value, count: int) -> None:
    """Add up `count` (a power of two) entries of shared memory into the first, each thread at its `place`."""
    step = count // 2
    while step:
        barrier()
        with T.If(place < step), T.Then():
            store(k_shared, place, k_shared[place] + k_shared[place + step])
        step //= 2
    barrier()


def floats(value: Value) -> Value:
    """As float32."""
    return T.cast(value, "float32")


def narrow(value: Value, dtype: str) -> Value:
    """float32 as float32, or as float16 within its range."""
    if dtype == "float32":
        return value
    return T.cast(T.min(T.max(value, T.float32(-LARGEST_HALF)), T.float32(LARGEST_HALF)), "float16")


def half_bits(word: Value, high: Value | bool) -> Value:
    """float32 of the fp16 number in the low or the high half of a uint32, without fp16 arithmetic.

    The exponent moves up by the difference of the biases; subnormal numbers, which a GPU may flush as
    float32, are made from their mantissa. Infinities do not occur: packing holds magnitudes at fp16's
    largest.
    """
    if isinstance(high, bool):
        bits = T.shift_right(word, T.uint32(16)) if high else T.bitwise_and(word, T.uint32(0xFFFF))
    else:
        bits = T.bitwise_and(T.shift_right(word, T.cast(high, "uint32") * T.uint32(16)), T.uint32(0xFFFF))
    bits = bind(bits)
    magnitude = bind(T.bitwise_and(bits, T.uint32(0x7FFF)))
    moved = T.shift_left(magnitude, T.uint32(13)) + T.uint32((127 - 15) << 23)
    small = T.cast(T.cast(magnitude, "int32"), "float32") * T.float32(2.0**-24)
    value = bind(T.Select(magnitude < T.uint32(0x400), small, T.reinterpret("float32", moved)))
    return bind(T.Select(bits >= T.uint32(0x8000), -value, value))

"""Vector operations for kernels written with TVMScript's builder.

Values are bound as they are made, so a kernel reads like straight-line code and nothing is computed twice.
Lane counts are those of the operand; scalars are broadcast by `fill`.
"""

from __future__ import annotations

from typing import Any

from tvm.script.ir_builder import IRBuilder
from tvm.tirx import Shuffle, Var
from tvm.tirx.script.builder import ir as T

Value = Any
Buffer = Any

PREFETCH = 8192
"""Bytes ahead at which weights are asked for."""
LOG2_E = 1.4426950408889634
# 2**f on [-0.5, 0.5]: Taylor coefficients of e**(f ln 2); relative error below 3e-8, under float32's step.
_EXP2 = (1.0, 0.6931471805599453, 0.2402265069591007, 0.05550410866482158, 0.009618129107628477,
         0.0013333558146428443, 0.00015403530393381608)  # fmt: skip


def bind(value: Value) -> Value:
    """Compute `value` here, once."""
    return T.Bind(value)


def fill(value: Value | float, lanes: int) -> Value:
    """`value` (a float is float32) in every lane."""
    if isinstance(value, float):
        value = T.float32(value)
    return T.Broadcast(value, lanes) if lanes > 1 else value


def fill_int(value: int, lanes: int) -> Value:
    """An int32 in every lane."""
    return T.Broadcast(T.int32(value), lanes)


def load(buffer: Buffer, at: Value, lanes: int) -> Value:
    """`lanes` neighbours of a flat buffer, from `at` on."""
    return bind(buffer[T.Ramp(at, 1, lanes)])


def store(buffer: Buffer, at: Value, value: Value, lanes: int) -> None:
    """Write `lanes` neighbours of a flat buffer, from `at` on."""
    T.buffer_store(buffer, value, [T.Ramp(at, 1, lanes)] if lanes > 1 else [at])


def call(dtype: str, name: str, *args: Value) -> Value:
    """The LLVM intrinsic `name`."""
    return bind(T.call_llvm_pure_intrin(dtype, name, *args))


def fma(a: Value, b: Value, c: Value, lanes: int) -> Value:
    """a * b + c with one rounding, the same one in every kernel."""
    return call(f"float32x{lanes}", "llvm.fma", a, b, c)


def to_float(value: Value, lanes: int) -> Value:
    """Integers or halves as float32."""
    return bind(T.cast(value, f"float32x{lanes}" if lanes > 1 else "float32"))


def halves(buffer: Buffer, at: Value, lanes: int) -> Value:
    """`lanes` fp16 numbers of a buffer of bytes from byte `at` on, as float32."""
    return to_float(T.reinterpret(f"float16x{lanes}", load(buffer, at, 2 * lanes)), lanes)


def prefetch(buffer: Buffer, at: Value, *, once: bool = False) -> None:
    """Ask for the cache line at `at` of a flat buffer; places beyond its end do no harm.

    Args:
        once: it is read soon and then not again (as weights are in a step), so that only the nearest cache
            need take it.
    """
    address = T.address_of(buffer[at])
    locality = T.int32(0 if once else 3)
    T.evaluate(T.call_llvm_intrin("void", "llvm.prefetch", address, T.int32(0), locality, T.int32(1)))


def maximum(a: Value, b: Value) -> Value:
    return bind(T.max(a, b))


def reduce_max(value: Value) -> Value:
    """The largest lane of a float32 vector."""
    return call("float32", "llvm.vector.reduce.fmax", value)


def reduce_add_int(value: Value) -> Value:
    """The sum of an int32 vector's lanes."""
    return call("int32", "llvm.vector.reduce.add", value)


def reduce_add(value: Value, lanes: int) -> Value:
    """The sum of a float32 vector's lanes, in the order of a halving tree."""
    while lanes > 1:
        lanes //= 2
        low, high = _lanes(value, 0, lanes), _lanes(value, lanes, lanes)
        value = bind(low + high)
    return value


def first_lane(value: Value) -> Value:
    """Lane 0 of a vector."""
    return bind(_lanes(value, 0, 1))


def _lanes(value: Value, start: int, count: int) -> Value:
    """Lanes `start` to `start + count` of a vector."""
    indices = [T.int32(index) for index in range(start, start + count)]
    return Shuffle([value], indices)


def exp(value: Value, lanes: int) -> Value:
    """e**value for float32 lanes; exactly 0 below -87, and values above 88 count as 88."""
    dtype = f"float32x{lanes}"
    bounded = bind(T.min(T.max(value, fill(-87.0, lanes)), fill(88.0, lanes)))
    scaled = bind(bounded * fill(LOG2_E, lanes))
    whole = call(dtype, "llvm.roundeven", scaled)
    # The remainder from the unscaled argument keeps the error of `scaled` out of it.
    part = fma(bounded, fill(LOG2_E, lanes), bind(-whole), lanes)
    result = fill(_EXP2[-1], lanes)
    for coefficient in _EXP2[-2::-1]:
        result = fma(result, part, fill(coefficient, lanes), lanes)
    exponent = bind(T.cast(whole, f"int32x{lanes}") + fill_int(127, lanes))
    power = T.reinterpret(dtype, bind(exponent << fill_int(23, lanes)))
    return bind(T.Select(value < fill(-87.0, lanes), fill(0.0, lanes), result * power))


def erf(value: Value, lanes: int) -> Value:
    """The error function (Abramowitz and Stegun 7.1.26, absolute error below 1.5e-7)."""
    dtype = f"float32x{lanes}"
    size = call(dtype, "llvm.fabs", value)
    t = bind(fill(1.0, lanes) / fma(fill(0.3275911, lanes), size, fill(1.0, lanes), lanes))
    series = fill(1.061405429, lanes)
    for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = fma(series, t, fill(coefficient, lanes), lanes)
    rest = bind(series * t * exp(bind(-(size * size)), lanes))
    return call(dtype, "llvm.copysign", bind(fill(1.0, lanes) - rest), value)


class Register:
    """A vector variable, kept in a register when `buffer` is only used at constant places."""

    def __init__(self, buffer: Buffer, at: int, lanes: int) -> None:
        self._buffer, self._at, self._lanes = buffer, at, lanes

    @property
    def value(self) -> Value:
        return load(self._buffer, self._at, self._lanes)

    @value.setter
    def value(self, value: Value) -> None:
        store(self._buffer, self._at, value, self._lanes)


def registers(dtype: str, lanes: int, count: int) -> list[Register]:
    """Vector variables. They share one allocation: TVM puts many small ones on the heap."""
    buffer = T.alloc_buffer((lanes * count,), dtype, scope="local")
    return [Register(buffer, index * lanes, lanes) for index in range(count)]


class Kernel:
    """A function under construction: `with Kernel("name") as k: a = k.buffer(...); ...`, then
    `k.function`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._builder = IRBuilder()

    def __enter__(self) -> Kernel:
        self._builder.__enter__()
        self._frame = T.prim_func()
        self._frame.__enter__()
        T.func_name(self.name)
        T.func_attr({"global_symbol": self.name, "tirx.noalias": True, "tirx.is_scheduled": True})
        return self

    def buffer(self, name: str, shape: tuple[Any, ...], dtype: str) -> Buffer:
        """An argument: a tensor of this shape (entries may be variables of `size`)."""
        return T.arg(name, T.buffer(shape, dtype))

    def size(self, name: str) -> Value:
        """A symbolic size, taken from the shapes of arguments."""
        return Var(name, "int64")

    def __exit__(self, *error: Any) -> None:
        self._frame.__exit__(*error)
        self._builder.__exit__(*error)
        if error[0] is None:
            self.function = self._builder.get()


def flat(buffer: Buffer) -> Buffer:
    """The same memory with one dimension. Arguments are declared before any is flattened."""
    size: Value = 1
    for extent in buffer.shape:
        size = size * extent
    return T.decl_buffer((size,), buffer.dtype, data=buffer.data)

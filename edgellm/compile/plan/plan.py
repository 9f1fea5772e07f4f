"""The plan of a program: launches in order, what they take, and the memory between them. See docs/plan.md.

These types are the format: the reader, the writer and the schema are made from them. They need no TVM.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from edgellm.compile.plan.sizes import Expr, mul

FORMAT = 1
PLAN_NAME = "plan.json"
DTYPE_BYTES = {"float32": 4, "float16": 2, "int32": 4, "uint32": 4, "int8": 1, "uint8": 1}

Language = Literal["wgsl", "opencl", "metal", "cuda"]
Arithmetic = Literal["fp32", "fp16"]
Access = Literal["read", "write", "readwrite"]
Dtype = Literal["float32", "float16", "int32", "uint32", "int8", "uint8"]
Kind = Literal["input", "table", "cache", "slot", "output"]
Feature = Literal["fp16"]

SUFFIXES: dict[Language, str] = {"wgsl": ".wgsl", "opencl": ".cl", "metal": ".metal", "cuda": ".cu"}
COMPILED_SUFFIX = ".ptx"
"""Of what stands beside a CUDA text: the same compiled, which is what a host loads."""

# The end of a text in JSON Schema's expressions and in Python's: there `$` lets a newline follow.
_END = r"(?![\s\S])"
Name = Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9_.]{0,99}" + _END)]
Symbol = Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}" + _END)]
SourceFile = Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}\.(wgsl|cl|metal|cu)" + _END)]
Positive = Annotated[int, Meta(ge=1, le=2**53 - 1)]
Size = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class Buffer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Memory on the device that the host allocates: `shape` numbers of `dtype`, row by row.

    Attributes:
        kind: input (the host fills it before a step), table (once, before the first), cache (zeros before the
            first step, then kept from step to step), slot (between launches of one step), output.
        shape: expressions over the sizes.
    """

    name: Name
    kind: Kind
    dtype: Dtype
    shape: Annotated[tuple[Any, ...], Meta(min_length=1, max_length=8)]

    @property
    def bytes(self) -> Expr:
        """An expression over the sizes."""
        size: Expr = DTYPE_BYTES[self.dtype]
        for extent in reversed(self.shape):
            size = mul(extent, size)
        return size


class Rotary(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What fills a table of rotary angles, float32[context, 2 * pairs].

    Row p holds cos(p * frequencies[i]) * factor for every pair i, then sin(p * frequencies[i]) * factor.

    Attributes:
        table: the buffer's name. frequencies: radians per position of each pair.
    """

    table: Name
    frequencies: Annotated[tuple[float, ...], Meta(min_length=1, max_length=1024)]
    factor: float = 1.0


class Kernel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A kernel: where its source stands, what it takes, and how it is launched.

    Attributes:
        source: file beside the plan. entry: the function's name in it.
        access: of each buffer argument.
        scalars: names of the sizes that it takes after the buffers, as int32, in order.
        threads: of a workgroup: x, y, z. shared_bytes: of its memory.
        grid: workgroups: x, y, z, as expressions over the sizes.
    """

    name: Symbol
    source: SourceFile
    entry: Symbol
    access: Annotated[tuple[Access, ...], Meta(min_length=1, max_length=31)]
    scalars: Annotated[tuple[Symbol, ...], Meta(max_length=16)]
    threads: tuple[Positive, Positive, Positive]
    shared_bytes: Size
    grid: tuple[Any, Any, Any]


class Launch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One launch of a kernel, with the names of the buffers it takes."""

    kernel: Symbol
    arguments: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=31)]


class Routine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A straight line of launches for steps of up to `most` tokens; a step takes the first that holds it."""

    most: Positive
    launches: Annotated[tuple[Launch, ...], Meta(min_length=1, max_length=65536)]


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A program.

    Attributes:
        needs: what the device must offer beyond its language's minimum.
        sizes: those a step sets and their largest values; 0: the host chooses, before it allocates.
        weights: bytes of each buffer that the weights' files hold.
    """

    format: int
    language: Language
    arithmetic: Arithmetic
    needs: Annotated[tuple[Feature, ...], Meta(max_length=8)]
    sizes: Annotated[dict[Symbol, Size], Meta(min_length=1, max_length=16)]
    rotary: Annotated[tuple[Rotary, ...], Meta(max_length=16)]
    buffers: Annotated[tuple[Buffer, ...], Meta(max_length=4096)]
    weights: Annotated[dict[Name, Positive], Meta(max_length=65536)]
    kernels: Annotated[tuple[Kernel, ...], Meta(min_length=1, max_length=1024)]
    routines: Annotated[tuple[Routine, ...], Meta(min_length=1, max_length=16)]

    def kernel(self, name: str) -> Kernel:
        """By its name, which must be there."""
        return next(kernel for kernel in self.kernels if kernel.name == name)

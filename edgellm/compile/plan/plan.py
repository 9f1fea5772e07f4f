"""The plan of a program: launches in order, what they take, and the memory between them. See docs/plan.md."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

FORMAT = 1
Language = Literal["wgsl", "opencl", "metal"]
Arithmetic = Literal["fp32", "fp16"]


class _Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    pass


class Kernel(_Struct):
    """A kernel: where its source stands, its workgroup, and what it takes.

    Attributes:
        source: file beside the plan. entry: the function's name in it.
        access: of each buffer argument: read, write or readwrite.
        scalars: names of the int32 sizes it takes after the buffers, in order.
        threads: of a workgroup. shared_bytes: of its memory.
    """

    name: str
    source: str
    entry: str
    access: tuple[str, ...]
    scalars: tuple[str, ...]
    threads: tuple[int, int, int]
    shared_bytes: int


class Argument(_Struct):
    """A buffer of a launch: a slot, an input, an output, a cache, or a weight, by name, from `offset` on."""

    name: str
    offset: int = 0
    bytes: int = 0
    """Of the part that is bound; 0: all of the buffer."""


class Launch(_Struct):
    """One kernel launch. `grid` are expressions over the sizes."""

    kernel: int
    arguments: tuple[Argument, ...]
    grid: tuple[Any, Any, Any]


class Buffer(_Struct):
    """A buffer that the host allocates: `bytes` is an expression over the sizes."""

    name: str
    kind: Literal["slot", "input", "output", "cache", "weights"]
    dtype: str
    bytes: Any


class Routine(_Struct):
    """A straight line of launches for steps of up to `most` tokens; a host takes the first that holds the step."""

    most: int
    launches: tuple[Launch, ...]


class Plan(_Struct):
    """A program."""

    format: int
    language: Language
    arithmetic: Arithmetic
    sizes: dict[str, int]
    """Sizes that a step sets, and their largest values (0: as the host allocates)."""
    buffers: tuple[Buffer, ...]
    kernels: tuple[Kernel, ...]
    routines: tuple[Routine, ...]

"""A conformance program before it is written: kernels, what they are launched with, and numpy's answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgellm.compile.gpu.kernel import GpuKernel
from edgellm.compile.plan.plan import Arithmetic, Buffer, Launch, Rotary, Routine

Array = NDArray[Any]


@dataclass(frozen=True)
class Step:
    """Inputs by name, the sizes, and what the output's beginning is then."""

    sizes: Mapping[str, int]
    inputs: Mapping[str, Array]
    output: Array


@dataclass(frozen=True)
class Case:
    """One program.

    Attributes:
        about: what a host may get wrong. sizes: largest values, 0 for those in `chosen`.
        chosen: what the host takes as the largest values of those. output: the buffer that is compared.
        tolerance: of each number, absolute and relative to the expected one.
    """

    name: str
    about: str
    kernels: Sequence[GpuKernel]
    sizes: Mapping[str, int]
    buffers: Sequence[Buffer]
    routines: Sequence[Routine]
    output: str
    steps: Sequence[Step]
    chosen: Mapping[str, int] = field(default_factory=dict)
    weights: Mapping[str, Array] = field(default_factory=dict)
    rotary: Sequence[Rotary] = ()
    arithmetic: Arithmetic = "fp32"
    tolerance: float = 1e-6


def launch(kernel: GpuKernel, *arguments: str) -> Launch:
    """Of a kernel, with buffers by name."""
    return Launch(kernel.name, arguments)


def floats(seed: int, *shape: int) -> NDArray[np.float32]:
    """Normally distributed numbers with few digits, the same everywhere."""
    values = np.random.RandomState(seed).standard_normal(shape)
    return np.round(values * 64).astype(np.float32) / np.float32(64)

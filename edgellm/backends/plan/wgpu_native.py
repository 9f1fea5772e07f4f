"""The parts of a step that wgpu's Python layer makes slow, through the C functions below it.

A step is some hundred launches of three calls each, and the package's methods guard every call. Errors of the
C functions are reported when the commands are finished. Where the package looks different inside, its methods
are used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgellm.backends.executor import Float32s
from edgellm.backends.plan.launches import Grid

Encode = Callable[[Any, Mapping[str, Grid]], None]
"""(compute pass, workgroups by kernel) -> None"""
_SYMBOLS = (
    "wgpuComputePassEncoderSetPipeline", "wgpuComputePassEncoderSetBindGroup",
    "wgpuComputePassEncoderDispatchWorkgroups",
)  # fmt: skip


def encoder(launches: Sequence[tuple[str, Any, Any]]) -> Encode:
    """What encodes these launches (kernel's name, pipeline, bind group), in order."""
    try:
        return _native(launches)
    except (ImportError, AttributeError):
        return _plain(launches)


def _plain(launches: Sequence[tuple[str, Any, Any]]) -> Encode:
    def encode(compute: Any, grids: Mapping[str, Grid]) -> None:
        last = None
        for kernel, pipeline, group in launches:
            if kernel != last:
                compute.set_pipeline(pipeline)
                last = kernel
            compute.set_bind_group(0, group)
            compute.dispatch_workgroups(*grids[kernel])

    return encode


def _native(launches: Sequence[tuple[str, Any, Any]]) -> Encode:
    from wgpu.backends.wgpu_native import ffi, lib

    set_pipeline, set_group, dispatch = (getattr(lib, name) for name in _SYMBOLS)
    null = ffi.NULL
    # Consecutive launches of one kernel need its pipeline set once.
    handles = [
        (kernel, pipeline._internal if i == 0 or launches[i - 1][0] != kernel else None, group._internal)
        for i, (kernel, pipeline, group) in enumerate(launches)
    ]

    def encode(compute: Any, grids: Mapping[str, Grid]) -> None:
        into = compute._internal
        for kernel, pipeline, group in handles:
            if pipeline is not None:
                set_pipeline(into, pipeline)
            set_group(into, 0, group, 0, null)
            x, y, z = grids[kernel]
            dispatch(into, x, y, z)

    return encode


def read(buffer: Any, count: int) -> Float32s:
    """Wait for the device, and copy the first `count` float32 numbers of a buffer that can be mapped."""
    buffer.map_async("READ_NOSYNC", 0, 4 * count).sync_wait()
    try:
        return np.frombuffer(buffer.read_mapped(0, 4 * count), np.float32)
    finally:
        buffer.unmap()

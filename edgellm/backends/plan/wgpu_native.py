"""The parts of a step that wgpu's Python layer makes slow, through the C functions below it.

A step is some hundred launches of three calls each, and the package's methods guard every call. Errors of the
C functions are reported when the commands are finished. Where the package looks different inside, its methods
are used.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


class Reader:
    """Brings back what lies in a buffer that can be mapped, in the calling thread where that is possible."""

    def __init__(self, device: Any) -> None:
        self._device = device
        self.mapped = 0.0
        """When the device had finished what was last read, as `time.perf_counter` tells."""
        self._answers: list[int] = []
        try:
            from wgpu.backends.wgpu_native import ffi, lib

            self._lib, self._ffi = lib, ffi
            signature = "void(WGPUMapAsyncStatus, WGPUStringView, void *, void *)"
            self._callback = ffi.callback(signature, lambda status, *rest: self._answers.append(status))
            self._info = ffi.new("WGPUBufferMapCallbackInfo *")
            self._info.mode = lib.WGPUCallbackMode_AllowProcessEvents
            self._info.callback = self._callback
            self._map, self._poll = lib.wgpuBufferMapAsync, lib.wgpuDevicePoll
            self._range, self._unmap = lib.wgpuBufferGetConstMappedRange, lib.wgpuBufferUnmap
            self._success, self._read = lib.WGPUMapAsyncStatus_Success, lib.WGPUMapMode_Read
            self._native = bool(device._internal)
        except Exception:
            self._native = False

    def read(self, buffer: Any, size: int) -> NDArray[np.uint8]:
        """Wait for the device, and copy the first `size` bytes.

        Raises:
            RuntimeError: the buffer cannot be mapped: the device is lost.
        """
        if not self._native:
            buffer.map_async("READ_NOSYNC", 0, size).sync_wait()
            self.mapped = time.perf_counter()
            try:
                return np.frombuffer(buffer.read_mapped(0, size), np.uint8)
            finally:
                buffer.unmap()
        self._answers.clear()
        handle = buffer._internal
        self._map(handle, self._read, 0, size, self._info[0])
        self._poll(self._device._internal, True, self._ffi.NULL)
        self.mapped = time.perf_counter()
        if self._answers != [self._success]:
            raise RuntimeError(f"results cannot be read: status {self._answers}")
        mapped = self._ffi.buffer(self._range(handle, 0, size), size)
        result = np.frombuffer(mapped, np.uint8).copy()
        self._unmap(handle)
        return result

"""Running plans through OpenCL."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import prod
from typing import Any

import numpy as np
import pyopencl as cl
from numpy.typing import NDArray

from edgellm.adapters import Adapter
from edgellm.backends.executor import Float32s
from edgellm.backends.plan.host import lost, no_device, no_kernel, no_memory
from edgellm.backends.plan.launches import Grids, buffer_bytes, routine_of, submissions
from edgellm.backends.plan.weights import Buffers
from edgellm.compile.plan.plan import Kernel, Launch, Plan

_PIECE = 16 << 20
"""Bytes of weights handed over at once."""


class OpenClHost:
    """See `Host`."""

    def __init__(
        self, plan: Plan, sources: Mapping[str, str], weights: Buffers, sizes: Mapping[str, int],
        adapter: Adapter,
    ) -> None:  # fmt: skip
        """Allocate, compile and upload. See `WgpuHost`.

        Raises:
            UnsupportedError: the device has no room, or its driver refuses a kernel.
        """
        self.adapter, self._plan = adapter, plan
        self.submitted = self.waited = 0.0
        try:
            self._context = cl.Context([adapter.handle])
            self._queue = cl.CommandQueue(self._context)
        except cl.Error as error:
            raise no_device(adapter, error) from error
        self._buffers: dict[str, Any] = {}
        for name, size in buffer_bytes(plan, sizes).items():
            self._buffers[name] = self._buffer(name, size, cl.mem_flags.READ_WRITE)
        caches = {one.name for one in plan.buffers if one.kind == "cache"}
        for name in caches:
            buffer = self._buffers[name]
            cl.enqueue_fill_buffer(self._queue, buffer, np.zeros(4, np.int32), 0, buffer.size)
        for name in plan.weights:
            self._upload(name, weights[name])
        self._grids = Grids(plan)
        compiled = self._compile(plan, sources)
        self._routines = [
            [self._prepare(part, compiled) for part in submissions(routine)] for routine in plan.routines
        ]

    def write(self, name: str, values: NDArray[Any]) -> None:
        """See `Host.write`."""
        cl.enqueue_copy(self._queue, self._buffers[name], np.ascontiguousarray(values), is_blocking=True)

    def run(
        self, inputs: Mapping[str, NDArray[Any]], sizes: Mapping[str, int], outputs: Mapping[str, int]
    ) -> dict[str, Float32s]:
        """See `Host.run`."""
        try:
            kept = self.submit(inputs, sizes)
            self.submitted = time.perf_counter()
            results = {name: np.empty(count, np.float32) for name, count in outputs.items()}
            for name, result in results.items():
                kept.append(cl.enqueue_copy(self._queue, result, self._buffers[name], is_blocking=False))
            self._queue.finish()
            self.waited = time.perf_counter() - self.submitted
            del kept
            return results
        except cl.Error as error:
            raise lost(self.adapter, error) from error

    def submit(self, inputs: Mapping[str, NDArray[Any]], sizes: Mapping[str, int]) -> list[Any]:
        """Queue a step. What is returned must live until it has run: events of copies, which keep the arrays,
        and would wait for their copy when they go.
        """
        queue = self._queue
        kept = [
            cl.enqueue_copy(queue, self._buffers[name], np.ascontiguousarray(values), is_blocking=False)
            for name, values in inputs.items()
        ]
        grids = self._grids.of(sizes)
        enqueue = cl.enqueue_nd_range_kernel
        for part in self._routines[routine_of(self._plan, sizes["n"])]:
            for launch in part:
                kernel = launch.kernel
                for index, name in enumerate(kernel.scalars):
                    value = sizes[name]
                    if launch.values[index] != value:
                        launch.values[index] = value
                        launch.compiled.set_arg(launch.first + index, np.int32(value))
                x, y, z = grids[kernel.name]
                i, j, k = kernel.threads
                enqueue(queue, launch.compiled, (x * i, y * j, z * k), kernel.threads)
            queue.flush()
        return kept

    def copy(self, pieces: Mapping[str, int], source: int, target: int) -> None:
        """See `Host.copy`."""
        if source == target:
            return
        try:
            for name, size in pieces.items():
                buffer = self._buffers[name]
                cl.enqueue_copy(
                    self._queue, buffer, buffer, byte_count=size, src_offset=source * size,
                    dst_offset=target * size,
                )  # fmt: skip
        except cl.Error as error:
            raise lost(self.adapter, error) from error

    def close(self) -> None:
        """See `Host.close`."""
        with suppress(cl.Error):  # of a device that is lost; its memory is gone as well
            self._queue.finish()
            for buffer in self._buffers.values():
                buffer.release()
        self._routines, self._buffers = [], {}

    def _buffer(self, name: str, size: int, flags: int) -> Any:
        try:
            return cl.Buffer(self._context, flags, size)
        except cl.Error as error:
            raise no_memory(self.adapter, f"the buffer {name}", size, error) from error

    def _upload(self, name: str, values: NDArray[np.uint8]) -> None:
        """Pieces of the mapped files, one after the other. Drivers often take the memory only now."""
        self._buffers[name] = buffer = self._buffer(name, -(-len(values) // 16) * 16, cl.mem_flags.READ_ONLY)
        try:
            for at in range(0, len(values), _PIECE):
                piece = values[at : at + _PIECE]
                cl.enqueue_copy(self._queue, buffer, piece, dst_offset=at, is_blocking=True)
        except cl.Error as error:
            raise no_memory(self.adapter, f"the buffer {name}", len(values), error) from error

    def _compile(self, plan: Plan, sources: Mapping[str, str]) -> dict[str, Any]:
        programs = {}
        for kernel in plan.kernels:
            try:
                program = cl.Program(self._context, sources[kernel.source]).build()
                problem = _misfit(kernel, cl.Kernel(program, kernel.entry), self.adapter.handle)
            except cl.Error as error:
                raise no_kernel(self.adapter, kernel.name, error) from error
            if problem is not None:
                raise no_kernel(self.adapter, kernel.name, problem)
            programs[kernel.name] = program
        return programs

    def _prepare(self, part: Sequence[Launch], programs: Mapping[str, Any]) -> list[_Launch]:
        """A kernel object for every launch, which keeps its buffers."""
        launches = []
        for launch in part:
            kernel = self._plan.kernel(launch.kernel)
            compiled = cl.Kernel(programs[kernel.name], kernel.entry)
            for index, name in enumerate(launch.arguments):
                compiled.set_arg(index, self._buffers[name])
            launches.append(_Launch(kernel, compiled, len(launch.arguments)))
        return launches


def _misfit(kernel: Kernel, compiled: Any, device: Any) -> str | None:
    """Why the device cannot launch what its driver made of a kernel; its registers bound its threads."""
    arguments = len(kernel.access) + len(kernel.scalars)
    if compiled.num_args != arguments:
        return f"its text has {compiled.num_args} arguments, and the plan {arguments}"
    threads = prod(kernel.threads)
    declared = compiled.get_work_group_info(cl.kernel_work_group_info.COMPILE_WORK_GROUP_SIZE, device)
    if prod(declared) not in (0, threads):
        return f"its text is for {prod(declared)} threads in a workgroup, not {threads}"
    most = compiled.get_work_group_info(cl.kernel_work_group_info.WORK_GROUP_SIZE, device)
    return f"it runs {most} threads of it in a workgroup, not {threads}" if most < threads else None


class _Launch:
    """One launch: its kernel object, and the scalars that it has been told last."""

    __slots__ = ("compiled", "first", "kernel", "values")

    def __init__(self, kernel: Kernel, compiled: Any, first: int) -> None:
        self.kernel, self.compiled, self.first = kernel, compiled, first
        self.values: list[int | None] = [None] * len(kernel.scalars)

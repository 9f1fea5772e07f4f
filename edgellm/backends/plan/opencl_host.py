"""Running plans through OpenCL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyopencl as cl
from numpy.typing import NDArray

from edgellm.backends.executor import Float32s
from edgellm.compile.plan.plan import Plan
from edgellm.compile.plan.sizes import evaluate


class OpenClHost:
    """One device, the program's buffers on it, and its kernels."""

    def __init__(
        self, plan: Plan, sources: Mapping[str, str], weights: Callable[[str], NDArray[Any]],
        sizes: Mapping[str, int], device: cl.Device,
    ) -> None:  # fmt: skip
        """Allocate, upload and compile. See `WgpuHost`."""
        self._plan = plan
        self._context = cl.Context([device])
        self._queue = cl.CommandQueue(self._context)
        flags = cl.mem_flags
        self._buffers: dict[str, Any] = {}
        for buffer in plan.buffers:
            size = max(16, evaluate(buffer.bytes, sizes))
            self._buffers[buffer.name] = cl.Buffer(self._context, flags.READ_WRITE, size)
        names = {one.name for launch in plan.routines[0].launches for one in launch.arguments}
        for name in names - set(self._buffers):
            data = np.ascontiguousarray(weights(name))
            self._buffers[name] = cl.Buffer(self._context, flags.READ_ONLY | flags.COPY_HOST_PTR, hostbuf=data)
        programs = {name: cl.Program(self._context, text).build() for name, text in sources.items()}
        self._routines = []
        for routine in plan.routines:
            launches = []
            for launch in routine.launches:
                kernel = plan.kernels[launch.kernel]
                compiled = cl.Kernel(programs[kernel.source], kernel.entry)
                for index, argument in enumerate(launch.arguments):
                    compiled.set_arg(index, self._buffers[argument.name])
                launches.append((compiled, len(launch.arguments), kernel, launch.grid))
            self._routines.append((routine.most, launches))

    def write(self, name: str, values: NDArray[Any]) -> None:
        """See `Host.write`."""
        cl.enqueue_copy(self._queue, self._buffers[name], np.ascontiguousarray(values), is_blocking=True)

    def run(self, sizes: Mapping[str, int]) -> None:
        """See `Host.run`."""
        launches = next(launches for most, launches in self._routines if sizes["n"] <= most)
        for compiled, first, kernel, grid in launches:
            for index, name in enumerate(kernel.scalars):
                compiled.set_arg(first + index, np.int32(sizes[name]))
            blocks = [evaluate(one, sizes) for one in grid]
            work = [count * threads for count, threads in zip(blocks, kernel.threads, strict=True)]
            cl.enqueue_nd_range_kernel(self._queue, compiled, work, kernel.threads)

    def read(self, name: str, count: int) -> Float32s:
        """See `Host.read`."""
        result = np.empty(count, np.float32)
        cl.enqueue_copy(self._queue, result, self._buffers[name], is_blocking=True)
        return result

    def close(self) -> None:
        """Let go of the device."""
        self._routines, self._buffers = [], {}

"""Running plans through wgpu: Vulkan, Metal and DirectX 12."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import wgpu
from numpy.typing import NDArray

from edgellm.backends.executor import Float32s
from edgellm.compile.plan.plan import Plan, Routine
from edgellm.compile.plan.sizes import evaluate

_SCALARS = 256
"""Bytes between the scalars of launches: the alignment that every device takes."""


class WgpuHost:
    """One device, the program's buffers on it, and its pipelines."""

    def __init__(
        self, plan: Plan, sources: Mapping[str, str], weights: Callable[[str], NDArray[Any]],
        sizes: Mapping[str, int],
    ) -> None:  # fmt: skip
        """Allocate, upload and compile.

        Args:
            sources: texts by file name. weights: a buffer's contents by its name.
            sizes: the largest of each.
        """
        adapter = wgpu.gpu.request_adapter_sync(power_preference="high-performance")
        wanted = ("max-storage-buffers-per-shader-stage", "max-storage-buffer-binding-size", "max-buffer-size")
        self.device = adapter.request_device_sync(required_limits={name: adapter.limits[name] for name in wanted})
        self._plan = plan
        usage = wgpu.BufferUsage
        self._buffers: dict[str, Any] = {}
        for buffer in plan.buffers:
            size = max(16, evaluate(buffer.bytes, sizes))
            self._buffers[buffer.name] = self.device.create_buffer(
                size=-(-size // 16) * 16, usage=usage.STORAGE | usage.COPY_DST | usage.COPY_SRC
            )
        names = {one.name for launch in plan.routines[0].launches for one in launch.arguments}
        for name in names - set(self._buffers):
            data = np.ascontiguousarray(weights(name))
            data = np.pad(data.ravel().view(np.uint8), (0, -data.nbytes % 16))
            self._buffers[name] = self.device.create_buffer_with_data(data=data, usage=usage.STORAGE)
        modules = {name: self.device.create_shader_module(code=text) for name, text in sources.items()}
        self._pipelines = [
            self.device.create_compute_pipeline(
                layout="auto", compute={"module": modules[kernel.source], "entry_point": kernel.entry}
            )
            for kernel in plan.kernels
        ]
        kinds: dict[Any, int] = {}
        self._routines = [self._prepare(routine, kinds) for routine in plan.routines]
        self._kinds = list(kinds)
        self._scalars = np.zeros((len(kinds), _SCALARS // 4), np.int32)
        self._bind()

    def _prepare(self, routine: Routine, kinds: dict[Any, int]) -> list[tuple[Any, ...]]:
        prepared = []
        for launch in routine.launches:
            kernel = self._plan.kernels[launch.kernel]
            kind = (kernel.scalars, repr(launch.grid[0]))
            prepared.append((launch, kinds.setdefault(kind, len(kinds))))
            self._grids = getattr(self, "_grids", {})
            self._grids[kind] = launch.grid[0]
        return prepared

    def _bind(self) -> None:
        usage = wgpu.BufferUsage
        self._uniform = self.device.create_buffer(
            size=max(_SCALARS, self._scalars.nbytes), usage=usage.UNIFORM | usage.COPY_DST
        )
        bound = []
        for routine in self._routines:
            launches = []
            for launch, kind in routine:
                pipeline = self._pipelines[launch.kernel]
                buffers = [self._buffers[one.name] for one in launch.arguments]
                entries = [
                    {"binding": i, "resource": {"buffer": b, "offset": 0, "size": b.size}}
                    for i, b in enumerate(buffers)
                ]
                entries.append(
                    {"binding": len(buffers), "resource": {"buffer": self._uniform, "offset": kind * _SCALARS, "size": _SCALARS}}
                )
                group = self.device.create_bind_group(layout=pipeline.get_bind_group_layout(0), entries=entries)
                launches.append((pipeline, group, launch.grid))
            bound.append(launches)
        self._bound = bound

    def write(self, name: str, values: NDArray[Any]) -> None:
        """See `Host.write`."""
        self.device.queue.write_buffer(self._buffers[name], 0, np.ascontiguousarray(values))

    def run(self, sizes: Mapping[str, int]) -> None:
        """See `Host.run`."""
        index = next(i for i, one in enumerate(self._plan.routines) if sizes["n"] <= one.most)
        for row, (names, grid) in enumerate(self._kinds):
            values = [sizes[name] for name in names]
            values.append(evaluate(self._grids[names, grid], sizes))
            self._scalars[row, : len(values)] = values
        self.device.queue.write_buffer(self._uniform, 0, self._scalars)
        encoder = self.device.create_command_encoder()
        compute = encoder.begin_compute_pass()
        for pipeline, group, grid in self._bound[index]:
            compute.set_pipeline(pipeline)
            compute.set_bind_group(0, group)
            compute.dispatch_workgroups(*(evaluate(one, sizes) for one in grid))
        compute.end()
        self.device.queue.submit([encoder.finish()])

    def read(self, name: str, count: int) -> Float32s:
        """See `Host.read`."""
        return np.frombuffer(self.device.queue.read_buffer(self._buffers[name], 0, 4 * count), np.float32)

    def close(self) -> None:
        """Let go of the device."""
        self._bound, self._buffers = [], {}

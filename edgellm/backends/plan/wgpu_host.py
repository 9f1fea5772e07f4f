"""Running plans through wgpu: Vulkan, Metal and DirectX 12."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgellm.adapters import WGPU_LOG, Adapter, import_wgpu
from edgellm.backends.executor import Float32s
from edgellm.backends.plan import wgpu_native
from edgellm.backends.plan.host import lost, no_device, no_kernel, no_memory
from edgellm.backends.plan.launches import Grids, buffer_bytes, routine_of, submissions
from edgellm.backends.plan.weights import Buffers
from edgellm.compile.plan.plan import Launch, Plan

SCALARS = 256
"""Bytes between the scalars of kernels in their buffer: an offset that every device takes."""
_PIECE = 8 << 20
"""Bytes of weights handed over at once."""
_UNDER_WAY = 64 << 20
"""Bytes of weights on their way at most: wgpu copies what it is handed."""
_LIMITS = (
    "max-buffer-size", "max-storage-buffer-binding-size", "max-storage-buffers-per-shader-stage",
    "max-compute-invocations-per-workgroup", "max-compute-workgroup-size-x", "max-compute-workgroup-size-y",
    "max-compute-workgroup-size-z", "max-compute-workgroup-storage-size",
)  # fmt: skip


class WgpuHost:
    """See `Host`."""

    def __init__(
        self, plan: Plan, sources: Mapping[str, str], weights: Buffers, sizes: Mapping[str, int],
        adapter: Adapter,
    ) -> None:  # fmt: skip
        """Allocate, compile and upload.

        Args:
            sources: texts by file name. sizes: the largest of each. adapter: one that wgpu sees.

        Raises:
            UnsupportedError: the device has no room, or its driver refuses a kernel.
        """
        wgpu = import_wgpu()
        self.adapter, self._plan = adapter, plan
        self.submitted = self.waited = 0.0
        self._usage = wgpu.BufferUsage
        try:
            self._device = adapter.handle.request_device_sync(
                required_features=["shader-f16"] if "fp16" in plan.needs else [],
                required_limits={name: adapter.handle.limits[name] for name in _LIMITS},
            )
        except Exception as error:
            raise no_device(adapter, error) from error
        self._queue = self._device.queue
        self._reader = wgpu_native.Reader(self._device)
        self._back: Any = None
        self._scratch: Any = None
        self._copies: list[tuple[Mapping[str, int], int, int]] = []
        usage = self._usage.STORAGE | self._usage.COPY_DST | self._usage.COPY_SRC
        self._buffers: dict[str, Any] = {}
        for name, size in buffer_bytes(plan, sizes).items():
            self._buffers[name] = self._buffer(name, size, usage)
        self._upload(plan, weights, usage)
        self._grids = Grids(plan)
        self._pipelines = self._compile(plan, sources)
        self._kinds = sorted({kernel.scalars for kernel in plan.kernels if kernel.scalars})
        self._scalars = np.zeros((max(1, len(self._kinds)), SCALARS // 4), np.int32)
        self._uniform = self._buffer(
            "scalars", self._scalars.nbytes, self._usage.UNIFORM | self._usage.COPY_DST
        )
        self._groups: list[Any] = []
        self._encode = [
            [wgpu_native.encoder([self._bound(one) for one in part]) for part in submissions(routine)]
            for routine in plan.routines
        ]

    def write(self, name: str, values: NDArray[Any]) -> None:
        """See `Host.write`."""
        self._queue.write_buffer(self._buffers[name], 0, np.ascontiguousarray(values))

    def run(
        self, inputs: Mapping[str, NDArray[Any]], sizes: Mapping[str, int], outputs: Mapping[str, int]
    ) -> dict[str, Float32s]:
        """See `Host.run`."""
        try:
            self.submit(inputs, sizes, outputs)
            self.submitted = time.perf_counter()
            results = self.collect(outputs)
            self.waited = self._reader.mapped - self.submitted
            return results
        except Exception as error:
            self._copies.clear()
            self._back = None
            said = WGPU_LOG.messages[-1] if WGPU_LOG.messages else error
            raise lost(self.adapter, said) from error

    def submit(
        self, inputs: Mapping[str, NDArray[Any]], sizes: Mapping[str, int], outputs: Mapping[str, int]
    ) -> None:
        """The first half of `run`: hand everything to the device."""
        queue = self._queue
        for name, values in inputs.items():
            queue.write_buffer(self._buffers[name], 0, np.ascontiguousarray(values))
        for row, names in enumerate(self._kinds):
            self._scalars[row, : len(names)] = [sizes[name] for name in names]
        queue.write_buffer(self._uniform, 0, self._scalars)
        back = self._read_back(4 * sum(outputs.values()))
        encoder = self._device.create_command_encoder()
        for copy in self._copies:
            self._copy(encoder, *copy)
        self._copies.clear()
        grids = self._grids.of(sizes)
        for part, encode in enumerate(self._encode[routine_of(self._plan, sizes["n"])]):
            if part:
                queue.submit([encoder.finish()])
                encoder = self._device.create_command_encoder()
            compute = encoder.begin_compute_pass()
            encode(compute, grids)
            compute.end()
        at = 0
        for name, count in outputs.items():
            encoder.copy_buffer_to_buffer(self._buffers[name], 0, back, at, 4 * count)
            at += 4 * count
        queue.submit([encoder.finish()])

    def collect(self, outputs: Mapping[str, int]) -> dict[str, Float32s]:
        """The second half: wait, and bring the outputs back."""
        values = self._reader.read(self._back, 4 * sum(outputs.values())).view(np.float32)
        ends = np.cumsum(list(outputs.values()))[:-1]
        return dict(zip(outputs, np.split(values, ends), strict=True))

    def copy(self, pieces: Mapping[str, int], source: int, target: int) -> None:
        """See `Host.copy`."""
        if source != target:
            self._copies.append((pieces, source, target))

    def close(self) -> None:
        """See `Host.close`."""
        for buffer in (*self._buffers.values(), self._uniform, self._scratch, self._back):
            if buffer is not None:
                buffer.destroy()
        self._encode, self._groups, self._buffers, self._pipelines = [], [], {}, {}
        self._scratch = self._back = self._uniform = None

    def _buffer(self, name: str, size: int, usage: int) -> Any:
        try:
            return self._device.create_buffer(size=size, usage=usage)
        except Exception as error:
            raise no_memory(self.adapter, f"the buffer {name}", size, error) from error

    def _upload(self, plan: Plan, weights: Buffers, usage: int) -> None:
        """Pieces of the mapped files; what is under way is bounded, and so is the memory that takes."""
        under_way = 0
        for name in plan.weights:
            values = weights[name]
            size = -(-len(values) // 16) * 16
            self._buffers[name] = buffer = self._buffer(name, size, usage)
            for at in range(0, len(values), _PIECE):
                piece = values[at : at + _PIECE]
                if len(piece) % 4:
                    piece = np.pad(piece, (0, -len(piece) % 4))
                self._queue.write_buffer(buffer, at, piece)
                under_way += len(piece)
                if under_way >= _UNDER_WAY:
                    self._flush(name)
                    under_way = 0

    def _flush(self, name: str) -> None:
        """Wait until all that was written has arrived, which it has when the last bytes come back."""
        try:
            encoder = self._device.create_command_encoder()
            encoder.copy_buffer_to_buffer(self._buffers[name], 0, self._read_back(4), 0, 4)
            self._queue.submit([encoder.finish()])
            self._reader.read(self._back, 4)
        except Exception as error:
            raise no_memory(self.adapter, f"the buffer {name}", self._buffers[name].size, error) from error

    def _compile(self, plan: Plan, sources: Mapping[str, str]) -> dict[str, Any]:
        pipelines = {}
        for kernel in plan.kernels:
            try:
                module = self._device.create_shader_module(code=sources[kernel.source])
                compute = {"module": module, "entry_point": kernel.entry}
                pipelines[kernel.name] = self._device.create_compute_pipeline(layout="auto", compute=compute)
            except Exception as error:
                raise no_kernel(self.adapter, kernel.name, error) from error
        return pipelines

    def _bound(self, launch: Launch) -> tuple[str, Any, Any]:
        """A launch: its kernel's name, its pipeline, and its buffers as a bind group."""
        kernel = self._plan.kernel(launch.kernel)
        bound = [{"buffer": self._buffers[name]} for name in launch.arguments]
        if kernel.scalars:
            offset = self._kinds.index(kernel.scalars) * SCALARS
            bound.append({"buffer": self._uniform, "offset": offset, "size": SCALARS})
        entries = [{"binding": place, "resource": one} for place, one in enumerate(bound)]
        pipeline = self._pipelines[kernel.name]
        try:
            layout = pipeline.get_bind_group_layout(0)
            group = self._device.create_bind_group(layout=layout, entries=entries)
        except Exception as error:
            raise no_kernel(self.adapter, kernel.name, error) from error
        self._groups.append(group)
        return kernel.name, pipeline, group

    def _read_back(self, size: int) -> Any:
        """A buffer that the host can read, made anew only when it must grow."""
        if self._back is None or self._back.size < size:
            if self._back is not None:
                self._back.destroy()
            self._back = self._buffer("read back", size, self._usage.MAP_READ | self._usage.COPY_DST)
        return self._back

    def _copy(self, encoder: Any, pieces: Mapping[str, int], source: int, target: int) -> None:
        """By way of a buffer between: WebGPU copies from one buffer to another only."""
        if self._scratch is None:
            usage = self._usage.COPY_SRC | self._usage.COPY_DST
            self._scratch = self._buffer("copied blocks", sum(pieces.values()), usage)
        scratch = self._scratch
        at = 0
        for name, size in pieces.items():
            encoder.copy_buffer_to_buffer(self._buffers[name], source * size, scratch, at, size)
            at += size
        at = 0
        for name, size in pieces.items():
            encoder.copy_buffer_to_buffer(scratch, at, self._buffers[name], target * size, size)
            at += size

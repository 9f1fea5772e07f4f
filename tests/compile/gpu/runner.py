"""Runs one kernel on a device: through wgpu as WGSL, through pyopencl as OpenCL C."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgellm.compile.gpu.export import Source, export
from edgellm.compile.gpu.kernel import GpuKernel
from edgellm.compile.plan.sizes import evaluate
from tests.support import require

Array = NDArray[Any]
HOW = "pip install 'edgellm[gpu]'; without a GPU, apt install mesa-vulkan-drivers and pocl-opencl-icd"


class WgpuRunner:
    """Kernels as WGSL."""

    language = "wgsl"

    def __init__(self) -> None:
        import wgpu

        adapter = wgpu.gpu.request_adapter_sync(power_preference="high-performance")
        self.fp16 = "shader-f16" in adapter.features
        self._device = adapter.request_device_sync(required_features=["shader-f16"] if self.fp16 else [])
        self._usage = wgpu.BufferUsage

    def compile(self, text: str) -> None:
        """Let the validator of wgpu take a text."""
        self._device.create_shader_module(code=text)

    def run(self, kernel: GpuKernel, arrays: Sequence[Array], sizes: Mapping[str, int]) -> list[Array]:
        """What the kernel leaves in the buffers that it writes, in their order."""
        device, usage = self._device, self._usage
        source = _source(kernel, self.language)
        buffers = [
            device.create_buffer_with_data(
                data=np.ascontiguousarray(one), usage=usage.STORAGE | usage.COPY_SRC
            )
            for one in arrays
        ]
        grid = [evaluate(one, sizes) for one in kernel.grid]
        if source.scalars:
            scalars = np.array([sizes[name] for name in source.scalars], np.int32)
            scalars = np.pad(scalars, (0, -len(scalars) % 4))
            buffers.append(device.create_buffer_with_data(data=scalars, usage=usage.UNIFORM))
        pipeline = device.create_compute_pipeline(
            layout="auto",
            compute={"module": device.create_shader_module(code=source.text), "entry_point": source.entry},
        )
        entries = [
            {"binding": i, "resource": {"buffer": one, "offset": 0, "size": one.size}}
            for i, one in enumerate(buffers)
        ]
        group = device.create_bind_group(layout=pipeline.get_bind_group_layout(0), entries=entries)
        encoder = device.create_command_encoder()
        compute = encoder.begin_compute_pass()
        compute.set_pipeline(pipeline)
        compute.set_bind_group(0, group)
        compute.dispatch_workgroups(*grid)
        compute.end()
        device.queue.submit([encoder.finish()])
        return [
            np.frombuffer(device.queue.read_buffer(buffer), array.dtype).reshape(array.shape)
            for buffer, array, argument in zip(buffers, arrays, kernel.arguments, strict=False)
            if argument.access != "read"
        ]


class OpenClRunner:
    """Kernels as OpenCL C."""

    language = "opencl"

    def __init__(self) -> None:
        import pyopencl as cl

        self._cl = cl
        device = next(one for platform in cl.get_platforms() for one in platform.get_devices())
        self.fp16 = "cl_khr_fp16" in device.extensions
        self._context = cl.Context([device])
        self._queue = cl.CommandQueue(self._context)

    def compile(self, text: str) -> None:
        """Let the device's compiler take a text."""
        self._cl.Program(self._context, text).build()

    def run(self, kernel: GpuKernel, arrays: Sequence[Array], sizes: Mapping[str, int]) -> list[Array]:
        """See `WgpuRunner.run`."""
        cl = self._cl
        source = _source(kernel, self.language)
        function = cl.Kernel(cl.Program(self._context, source.text).build(), source.entry)
        flags = cl.mem_flags.READ_WRITE | cl.mem_flags.COPY_HOST_PTR
        arrays = [np.ascontiguousarray(one) for one in arrays]
        buffers = [cl.Buffer(self._context, flags, hostbuf=one) for one in arrays]
        function.set_args(*buffers, *(np.int32(sizes[name]) for name in source.scalars))
        grid = [evaluate(one, sizes) for one in kernel.grid]
        work = [count * threads for count, threads in zip(grid, kernel.threads, strict=True)]
        cl.enqueue_nd_range_kernel(self._queue, function, work, kernel.threads)
        found = []
        for buffer, array, argument in zip(buffers, arrays, kernel.arguments, strict=True):
            if argument.access != "read":
                found.append(np.empty_like(array))
                cl.enqueue_copy(self._queue, found[-1], buffer, is_blocking=True)
        return found


Runner = WgpuRunner | OpenClRunner


@cache
def runner(language: str) -> Runner:
    """The runner of a language, opened once.

    Without its package or a device the test is skipped, and fails where CI is true.
    """
    module, kind = {"wgsl": ("wgpu", WgpuRunner), "opencl": ("pyopencl", OpenClRunner)}[language]
    require(module=module, reason=HOW)
    try:
        return kind()
    except Exception as error:  # each library has errors of its own for "no device"
        raise missing(f"{module} finds no device ({error}): {HOW}") from None


def missing(message: str) -> BaseException:
    """What ends a test that lacks a device: a skip, and a failure where CI is true."""
    kind = pytest.fail.Exception if os.environ.get("CI") == "true" else pytest.skip.Exception
    return kind(message)


def _source(kernel: GpuKernel, language: str) -> Source:
    assert len(kernel.arguments) <= 8, "more storage buffers than WebGPU guarantees"
    assert kernel.shared_bytes <= 16384, "more workgroup memory than WebGPU guarantees"
    assert np.prod(kernel.threads) <= 256
    return export(kernel, language)  # type: ignore[arg-type]

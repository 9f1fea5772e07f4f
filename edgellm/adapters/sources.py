"""What sees adapters: wgpu, OpenCL, and CUDA's driver. Their packages are imported when somebody asks."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from edgellm import cuda_driver
from edgellm.adapters.adapter import NVIDIA, Adapter, AdapterLimits, Kind, Through
from edgellm.adapters.memory import memory_of

_WGPU_KINDS: dict[str, Kind] = {
    "DiscreteGPU": "discrete", "IntegratedGPU": "integrated", "CPU": "software",
}  # fmt: skip
_WGPU_BACKENDS = {"darwin": ("Metal",), "win32": ("Vulkan", "DX12")}
"""Those with compute shaders that are worth it; elsewhere Vulkan."""
_CUDA_BINDING = 1 << 31
"""CUDA has no limit, but kernels count bytes and numbers of a buffer in int32."""


class WgpuLog(logging.Handler):
    """Keeps what wgpu says of its own accord, such as why a device was lost, from the user's terminal."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: deque[str] = deque(maxlen=8)

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


WGPU_LOG = WgpuLog()


def import_wgpu() -> Any:
    """The module wgpu, looking only at interfaces with compute shaders, its messages kept."""
    wgpu = importlib.import_module("wgpu")
    logger = logging.getLogger("wgpu")
    if WGPU_LOG not in logger.handlers:
        logger.addHandler(WGPU_LOG)
        # The instance may exist already, when the program that uses this library has its own use for wgpu.
        with contextlib.suppress(Exception):
            extras = importlib.import_module("wgpu.backends.wgpu_native.extras")
            # Microsoft's newer compiler has fp16. Where it is not beside wgpu, wgpu takes the older one.
            more = {"dx12_compiler": "Dxc"} if sys.platform == "win32" else {}
            extras.set_instance_extras(backends=_WGPU_BACKENDS.get(sys.platform, ("Vulkan",)), **more)
    return wgpu


Failed = Callable[[str], object]
"""Hears what could not be looked at, and why."""


def wgpu_adapters(failed: Failed) -> list[Adapter]:
    wgpu = import_wgpu()
    with _without_wayland():
        return _each(_wgpu_adapter, wgpu.gpu.enumerate_adapters_sync(), failed)


def _each(describe: Callable[[Any], Adapter], handles: Iterable[Any], failed: Failed) -> list[Adapter]:
    """What of the handles can be described: a driver that fails does not hide the others."""
    found = []
    for one in handles:
        try:
            found.append(describe(one))
        except Exception as error:
            failed(reason(error))
    return found


def reason(error: Exception) -> str:
    """What a driver or a package said, on one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__


@contextlib.contextmanager
def _without_wayland() -> Iterator[None]:
    """Where nobody is logged in to a desktop, Wayland's library complains on the terminal for every adapter,
    unless the path of its socket is absolute.
    """
    if "XDG_RUNTIME_DIR" in os.environ or "WAYLAND_DISPLAY" in os.environ:
        yield
        return
    os.environ["WAYLAND_DISPLAY"] = "/nonexistent"
    try:
        yield
    finally:
        os.environ.pop("WAYLAND_DISPLAY", None)


def _wgpu_adapter(adapter: Any) -> Adapter:
    info: Mapping[str, Any] = adapter.info
    limits = adapter.limits
    kind = _WGPU_KINDS.get(str(info.get("adapter_type")), "other")
    name = str(info.get("device") or info.get("vendor") or "unnamed")
    vendor = int(info.get("vendor_id") or 0)
    memory, free = memory_of(kind, name, vendor, int(info.get("device_id") or 0))
    return Adapter(
        name=name,
        through="wgpu",
        api=str(info.get("backend_type") or "unknown"),
        kind=kind,
        driver=str(info.get("description") or ""),
        vendor_id=vendor,
        fp16="shader-f16" in adapter.features,
        limits=AdapterLimits(
            buffer_bytes=int(limits["max-buffer-size"]),
            binding_bytes=int(limits["max-storage-buffer-binding-size"]),
            threads=int(limits["max-compute-invocations-per-workgroup"]),
            shared_bytes=int(limits["max-compute-workgroup-storage-size"]),
            buffers=int(limits["max-storage-buffers-per-shader-stage"]),
            grid=int(limits["max-compute-workgroups-per-dimension"]),
        ),
        memory=memory,
        free=free,
        handle=adapter,
    )


def opencl_devices(failed: Failed) -> list[Adapter]:
    cl = importlib.import_module("pyopencl")
    found: list[Adapter] = []
    try:
        platforms = cl.get_platforms()
    except cl.Error as error:
        if error.code == cl.status_code.PLATFORM_NOT_FOUND_KHR:  # no driver is installed
            return []
        raise
    for platform in platforms:
        try:
            devices = platform.get_devices()
        except cl.Error as error:
            failed(f"{platform.name}: {reason(error)}")
        else:
            found += _each(partial(_opencl_device, cl, platform), devices, failed)
    return found


def _opencl_device(cl: Any, platform: Any, device: Any) -> Adapter:
    kind: Kind = "other"
    if device.type & cl.device_type.CPU:
        kind = "software"
    elif device.type & cl.device_type.GPU:
        kind = "integrated" if device.host_unified_memory else "discrete"
    name, vendor = str(device.name).strip(), int(device.vendor_id)
    total = int(device.global_mem_size)
    _, free = memory_of(kind, name, vendor, 0)
    return Adapter(
        name=name,
        through="opencl",
        api="OpenCL",
        kind=kind,
        driver=f"{str(platform.name).strip()} {str(device.driver_version).strip()}",
        vendor_id=vendor,
        fp16="cl_khr_fp16" in str(device.extensions).split(),
        limits=AdapterLimits(
            buffer_bytes=int(device.max_mem_alloc_size),
            binding_bytes=int(device.max_mem_alloc_size),
            threads=int(device.max_work_group_size),
            shared_bytes=int(device.local_mem_size),
        ),
        memory=total,
        free=total if free is None else min(free, total),
        handle=device,
    )


def cuda_adapters() -> list[Adapter]:
    """Those that NVIDIA's driver sees and programs can run on.

    Raises:
        CudaError: there is no driver, or it does not work; says why.
    """
    return [_cuda_adapter(one) for one in cuda_driver.devices()]


def _cuda_adapter(device: cuda_driver.CudaDevice) -> Adapter:
    kind: Kind = "integrated" if device.integrated else "discrete"
    _, free = memory_of(kind, device.name, NVIDIA, 0)
    major, minor = device.capability
    return Adapter(
        name=device.name,
        through="cuda",
        api="CUDA",
        kind=kind,
        driver=f"driver for {cuda_driver.version()}, compute capability {major}.{minor}",
        vendor_id=NVIDIA,
        # Those of 6.1 compute with 16-bit floats, at a small part of their speed.
        fp16=device.capability != (6, 1),
        limits=AdapterLimits(
            buffer_bytes=device.memory,
            binding_bytes=_CUDA_BINDING,
            threads=device.threads,
            shared_bytes=device.shared_bytes,
        ),
        memory=device.memory,
        free=free,
        handle=device,
    )


LISTINGS: dict[Through, Callable[[Failed], list[Adapter]]] = {
    "wgpu": wgpu_adapters, "opencl": opencl_devices,
}  # fmt: skip

"""Graphics adapters of this machine, as wgpu, OpenCL and CUDA see them, and the choice of one.

Packages that see adapters are optional and imported only when somebody asks.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import msgspec

from edgellm import cuda_driver
from edgellm.errors import MissingDependencyError, UnsupportedError
from edgellm.machine import read_memory, run

ADAPTER_VARIABLE = "EDGELLM_ADAPTER"
Through = Literal["wgpu", "opencl", "cuda"]
Kind = Literal["discrete", "integrated", "other", "software"]
MODULES: dict[Through, str] = {"wgpu": "wgpu", "opencl": "pyopencl"}
EXTRAS: dict[Through, str] = {"wgpu": "gpu", "opencl": "opencl"}
"""The extra of this package that installs what sees such adapters. CUDA's driver is no package."""

_KINDS: tuple[Kind, ...] = ("discrete", "integrated", "other", "software")
_WGPU_KINDS: dict[str, Kind] = {
    "DiscreteGPU": "discrete", "IntegratedGPU": "integrated", "CPU": "software",
}  # fmt: skip
_WGPU_BACKENDS = {"darwin": ("Metal",), "win32": ("Vulkan", "DX12")}
"""Those with compute shaders that are worth it; elsewhere Vulkan."""
_APIS = ("Vulkan", "Metal", "D3D12", "OpenCL")
_TARGETS = {
    # PCI vendors, as Vulkan, DirectX and most OpenCL drivers report them.
    0x8086: "intel-gpu", 0x1002: "amd-gpu", 0x10DE: "nvidia-gpu", 0x106B: "apple-gpu", 0x13B5: "mali",
    0x5143: "adreno",
}  # fmt: skip
_NVIDIA = 0x10DE
_CUDA_BINDING = 1 << 31
"""CUDA has no limit, but kernels count bytes and numbers of a buffer in int32."""


class AdapterLimits(msgspec.Struct, frozen=True):
    """What a program must keep to. None: the interface sets no such limit.

    Attributes:
        buffer_bytes: of a buffer. binding_bytes: of a buffer as a kernel sees it.
        buffers: that a kernel may take. threads: of a workgroup. shared_bytes: of its memory.
        grid: workgroups along one dimension.
    """

    buffer_bytes: int
    binding_bytes: int
    threads: int
    shared_bytes: int
    buffers: int | None = None
    grid: int | None = None


@dataclass(frozen=True)
class Adapter:
    """One adapter.

    Attributes:
        number: its place in the list, best first.
        through: what sees it. api: Vulkan, Metal, D3D12, OpenCL or CUDA.
        kind: software adapters compute on the processor.
        memory, free: bytes for buffers, in all and free; None if unknown. Integrated and software adapters
            have the machine's.
        handle: wgpu's or pyopencl's object, or a `CudaDevice`.
    """

    name: str
    through: Through
    api: str
    kind: Kind
    driver: str
    vendor_id: int
    fp16: bool
    limits: AdapterLimits
    memory: int | None
    free: int | None
    number: int = 0
    handle: Any = field(default=None, repr=False, compare=False)

    @property
    def target(self) -> str | None:
        """The target whose bundles suit it."""
        if self.kind == "software":
            return None
        return _TARGETS.get(self.vendor_id) or ("apple-gpu" if self.name.startswith("Apple ") else None)

    def __str__(self) -> str:
        return f"{self.name} ({self.api}, {self.driver})" if self.driver else f"{self.name} ({self.api})"

    def facts(self) -> dict[str, Any]:
        """As plain values."""
        names = ("number", "name", "through", "api", "kind", "driver", "vendor_id", "fp16", "memory", "free")
        return {
            **{name: getattr(self, name) for name in names},
            "target": self.target,
            "limits": msgspec.to_builtins(self.limits),
        }


class WgpuLog(logging.Handler):
    """Keeps what wgpu says of its own accord, such as why a device was lost, from the user's terminal."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: deque[str] = deque(maxlen=8)

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


WGPU_LOG = WgpuLog()


def installed() -> list[Through]:
    """What can look for adapters here."""
    return [through for through, module in MODULES.items() if importlib.util.find_spec(module) is not None]


def list_adapters(*, cuda: bool = False) -> list[Adapter]:
    """All adapters, best first: discrete, integrated, others, then software. [] if nothing sees any.

    Args:
        cuda: those that CUDA sees as well, after all others, whose numbers do not depend on it.
    """
    found: list[Adapter] = []
    for through in installed():
        # A broken driver must not stop a report about this machine; pyopencl raises when there is no driver.
        with contextlib.suppress(Exception):
            found += _LISTINGS[through]()
    apis = {api: place for place, api in enumerate(_APIS)}
    found.sort(key=lambda one: (_KINDS.index(one.kind), apis.get(one.api, len(apis))))
    if cuda:
        with contextlib.suppress(cuda_driver.CudaError):
            found += cuda_adapters()
    return [replace(one, number=number) for number, one in enumerate(found)]


def choose_adapter(adapters: Sequence[Adapter], wanted: str | None = None) -> Adapter:
    """The adapter that `wanted` (else the environment's `EDGELLM_ADAPTER`) names by its number in
    `list_adapters` or by a part of its name; without either the best one that is no software.

    Raises:
        MissingDependencyError: no package is installed that sees adapters.
        UnsupportedError: there is no such adapter, or no GPU.
    """
    if not adapters and not installed():
        raise MissingDependencyError(
            "a bundle for GPUs runs through wgpu or OpenCL, and neither is installed: "
            "pip install 'edgellm[gpu]' or 'edgellm[opencl]'"
        )
    wanted = wanted if wanted is not None else os.environ.get(ADAPTER_VARIABLE) or None
    listed = "; ".join(f"{one.number}: {one}" for one in adapters) or "none"
    if wanted is not None:
        for one in adapters:
            matches = one.number == int(wanted) if wanted.isdecimal() else wanted.lower() in str(one).lower()
            if matches:
                return one
        raise UnsupportedError(
            f"no graphics adapter that can run this is called {wanted!r}; there are {listed}"
        )
    if adapters and adapters[0].kind != "software":
        return adapters[0]
    advice = "install its driver (on Debian and Ubuntu mesa-vulkan-drivers, or the vendor's)"
    if not adapters:
        return _none_found(advice)
    name = adapters[0].name.split(" ")[0]
    raise UnsupportedError(
        f"no GPU was found, only software that computes on the processor ({listed}); {advice}, build for the "
        f"processor, or set {ADAPTER_VARIABLE}={name} to use that, slowly"
    )


def _none_found(advice: str) -> Adapter:
    through = installed()
    other = next((EXTRAS[one] for one in MODULES if one not in through), None)
    more = f", or pip install 'edgellm[{other}]' to look in another way" if other else ""
    raise UnsupportedError(f"no GPU that can run this was found; {advice}{more}, or build for the processor")


def import_wgpu() -> Any:
    """The module wgpu, looking only at interfaces with compute shaders, its messages kept."""
    wgpu = importlib.import_module("wgpu")
    logger = logging.getLogger("wgpu")
    if WGPU_LOG not in logger.handlers:
        logger.addHandler(WGPU_LOG)
        # The instance may exist already, when the program that uses this library has its own use for wgpu.
        with contextlib.suppress(Exception):
            extras = importlib.import_module("wgpu.backends.wgpu_native.extras")
            extras.set_instance_extras(backends=_WGPU_BACKENDS.get(sys.platform, ("Vulkan",)))
    return wgpu


def _wgpu_adapters() -> list[Adapter]:
    wgpu = import_wgpu()
    with _without_wayland():
        return [_wgpu_adapter(one) for one in wgpu.gpu.enumerate_adapters_sync()]


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
    memory, free = _memory(kind, name, vendor, int(info.get("device_id") or 0))
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


def _opencl_devices() -> list[Adapter]:
    cl = importlib.import_module("pyopencl")
    return [
        _opencl_device(cl, platform, device)
        for platform in cl.get_platforms()
        for device in platform.get_devices()
    ]


def _opencl_device(cl: Any, platform: Any, device: Any) -> Adapter:
    kind: Kind = "other"
    if device.type & cl.device_type.CPU:
        kind = "software"
    elif device.type & cl.device_type.GPU:
        kind = "integrated" if device.host_unified_memory else "discrete"
    name, vendor = str(device.name).strip(), int(device.vendor_id)
    total = int(device.global_mem_size)
    _, free = _memory(kind, name, vendor, 0)
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
    _, free = _memory(kind, device.name, _NVIDIA, 0)
    major, minor = device.capability
    return Adapter(
        name=device.name,
        through="cuda",
        api="CUDA",
        kind=kind,
        driver=f"driver for {cuda_driver.version()}, compute capability {major}.{minor}",
        vendor_id=_NVIDIA,
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


def _memory(kind: Kind, name: str, vendor: int, device: int) -> tuple[int | None, int | None]:
    """Bytes in all and free, from wherever this system tells."""
    if kind in ("integrated", "software"):
        memory = read_memory()
        return memory.total, memory.available
    if vendor == _NVIDIA:
        return _nvidia_memory(name)
    return _drm_memory(vendor, device)


def _nvidia_memory(name: str) -> tuple[int | None, int | None]:
    text = run("nvidia-smi", "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits")
    for line in (text or "").splitlines():
        title, *sizes = (part.strip() for part in line.rsplit(",", 2))
        if title == name and len(sizes) == 2 and all(size.isdecimal() for size in sizes):
            return int(sizes[0]) << 20, int(sizes[1]) << 20
    return None, None


def _drm_memory(
    vendor: int, device: int, root: Path = Path("/sys/class/drm")
) -> tuple[int | None, int | None]:
    """From what Linux's amdgpu says of its cards."""
    for card in sorted(root.glob("card*/device")):
        with contextlib.suppress(OSError, ValueError):
            if int((card / "vendor").read_text(), 16) != vendor:
                continue
            if device and int((card / "device").read_text(), 16) != device:
                continue
            total, used = (int((card / f"mem_info_vram_{one}").read_text()) for one in ("total", "used"))
            return total, max(0, total - used)
    return None, None


_LISTINGS: dict[Through, Callable[[], list[Adapter]]] = {
    "wgpu": _wgpu_adapters, "opencl": _opencl_devices,
}  # fmt: skip

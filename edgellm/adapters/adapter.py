"""What is known of a graphics adapter."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

Through = Literal["wgpu", "opencl", "cuda"]
Kind = Literal["discrete", "integrated", "other", "software"]
KINDS: tuple[Kind, ...] = ("discrete", "integrated", "other", "software")
"""The best first."""
NVIDIA = 0x10DE
_TARGETS = {
    # PCI vendors, as Vulkan, DirectX and most OpenCL drivers report them.
    0x8086: "intel-gpu", 0x1002: "amd-gpu", NVIDIA: "nvidia-gpu", 0x106B: "apple-gpu", 0x13B5: "mali",
    0x5143: "adreno",
}  # fmt: skip


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

"""What is known of a graphics adapter."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import msgspec

if TYPE_CHECKING:
    from edgellm.compile.plan.plan import Language

Through = Literal["wgpu", "opencl", "cuda"]
Kind = Literal["discrete", "integrated", "other", "software"]
KINDS: tuple[Kind, ...] = ("discrete", "integrated", "other", "software")
"""The best first."""
NVIDIA = 0x10DE
LANGUAGES: dict[Through, Language] = {"wgpu": "wgsl", "opencl": "opencl", "cuda": "cuda"}
"""Of the programs that each runs."""


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
        memory, free: bytes for buffers, in all and free; None if unknown. Software adapters have the
            machine's, integrated ones a part of it.
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

    def runs(self, programs: Collection[str]) -> list[str]:
        """Those of the programs, called LANGUAGE-ARITHMETIC, that it can run, best first."""
        arithmetics = ("fp16", "fp32") if self.fp16 else ("fp32",)
        names = [f"{LANGUAGES[self.through]}-{one}" for one in arithmetics]
        return [name for name in names if name in programs]

    def __str__(self) -> str:
        return f"{self.name} ({self.api}, {self.driver})" if self.driver else f"{self.name} ({self.api})"

    def facts(self) -> dict[str, Any]:
        """As plain values."""
        names = ("number", "name", "through", "api", "kind", "driver", "vendor_id", "fp16", "memory", "free")
        return {
            **{name: getattr(self, name) for name in names},
            "limits": msgspec.to_builtins(self.limits),
        }

"""How much memory a graphics adapter has, from wherever the system tells."""

from __future__ import annotations

import contextlib
from pathlib import Path

from edgellm.adapters.adapter import NVIDIA, Kind
from edgellm.machine import read_memory, run


def memory_of(kind: Kind, name: str, vendor: int, device: int) -> tuple[int | None, int | None]:
    """Bytes in all and free, None where nothing tells; vendor and device: their PCI numbers, 0 if unknown."""
    if kind in ("integrated", "software"):
        whole = read_memory()
        return whole.total, whole.available
    if vendor == NVIDIA:
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

"""How much memory a graphics adapter has, from wherever the system tells."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from edgellm.adapters.adapter import NVIDIA, Kind
from edgellm.machine import read_memory, run

_SHARE = 1 / 2
"""Of the machine's memory that integrated adapters may use: the limit of Windows (Microsoft, "Calculating
Graphics Memory") and of Linux's TTM; Mesa's driver for Intel lets them have more where there is much.
"""
_SHARES = {"darwin": 2 / 3}
"""Metal's recommendedMaxWorkingSetSize is two thirds of the memory of small Macs, and more of large ones'."""


def memory_of(kind: Kind, name: str, vendor: int, device: int) -> tuple[int | None, int | None]:
    """Bytes in all and free, None where nothing tells; vendor and device: their PCI numbers, 0 if unknown."""
    whole = read_memory()
    if kind == "software":
        return whole.total, whole.available
    if kind == "integrated":
        share = _SHARES.get(sys.platform, _SHARE)
        total = None if whole.total is None else int(whole.total * share)
        return total, min((one for one in (total, whole.available) if one is not None), default=None)
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

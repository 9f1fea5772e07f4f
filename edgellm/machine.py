"""What this machine is: processor, memory, disk. Unknown values are None, never guesses."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import msgspec

from edgellm.cpuid import cpuid_features

_LINUX_FLAGS = {
    # Names in /proc/cpuinfo -> names people know; those that matter to matrix products.
    "sse4_1": "SSE4.1", "avx": "AVX", "f16c": "F16C", "fma": "FMA", "avx2": "AVX2", "avx_vnni": "AVX-VNNI",
    "avx512f": "AVX-512F", "avx512bw": "AVX-512BW", "avx512dq": "AVX-512DQ", "avx512vl": "AVX-512VL",
    "avx512_vnni": "AVX-512-VNNI", "avx512_bf16": "AVX-512-BF16",
    "amx_tile": "AMX", "amx_int8": "AMX-INT8", "amx_bf16": "AMX-BF16",
}  # fmt: skip
_WINDOWS_FLAGS = (
    # Windows has no number for F16C and FMA; every processor with AVX2 that it runs on has them.
    (39, ("AVX",)), (40, ("AVX2", "F16C", "FMA")), (41, ("AVX-512F",)),
    (19, ("NEON",)), (43, ("dot product",)),
)  # fmt: skip
_ARM_FLAGS = (
    # Entry of the auxiliary vector, bit, name: AT_HWCAP and AT_HWCAP2 of Linux's asm/hwcap.h for arm64.
    (16, 1, "NEON"), (16, 10, "FP16"), (16, 20, "dot product"), (26, 13, "I8MM"), (26, 14, "BF16"),
    (16, 22, "SVE"), (26, 1, "SVE2"),
)  # fmt: skip
_MAC_FLAGS = {
    "hw.optional.avx2_0": "AVX2", "hw.optional.avx512f": "AVX-512F", "hw.optional.neon": "NEON",
    "hw.optional.arm.FEAT_FP16": "FP16", "hw.optional.arm.FEAT_DotProd": "dot product",
    "hw.optional.arm.FEAT_I8MM": "I8MM", "hw.optional.arm.FEAT_BF16": "BF16",
}  # fmt: skip


class Cpu(msgspec.Struct, frozen=True):
    """The processor. `usable_cores` counts what this process may use (affinity, container limits)."""

    model: str | None
    architecture: str
    cores: int | None
    usable_cores: int | None
    features: tuple[str, ...]


class Memory(msgspec.Struct, frozen=True):
    """Main memory in bytes: all of it, and what a new program can take without swapping."""

    total: int | None
    available: int | None


def read_cpu(cpuinfo: Path = Path("/proc/cpuinfo"), auxv: Path = Path("/proc/self/auxv")) -> Cpu:
    """The processor of this machine.

    On Arm, `auxv` (what the kernel tells a program at its start) says what the processor has; emulators and
    containers of other architectures show the host's cpuinfo.
    """
    model: str | None = None
    features: list[str] = []
    if sys.platform == "darwin":
        model = _sysctl("machdep.cpu.brand_string")
        features = [title for key, title in _MAC_FLAGS.items() if _sysctl(key) == "1"]
    elif sys.platform == "win32":
        features = _windows_features()
    elif cpuinfo.is_file():
        facts = _cpuinfo(cpuinfo.read_text(errors="replace"))
        model = facts.get("model name") or facts.get("Model") or facts.get("Hardware")
        if platform.machine() == "aarch64":
            features = _arm_features(auxv)
        else:
            flags = set((facts.get("flags") or "").split())
            features = [title for flag, title in _LINUX_FLAGS.items() if flag in flags]
    return Cpu(
        model=model or platform.processor() or None,
        architecture=platform.machine(),
        cores=os.cpu_count(),
        usable_cores=usable_cores(),
        features=tuple(features),
    )


def system_name() -> str:
    """The operating system: linux, macos or windows (others by what Python calls them)."""
    return {"darwin": "macos", "win32": "windows"}.get(sys.platform, sys.platform)


def usable_cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Cores this process may use: its affinity, and a container's limit rounded up."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with contextlib.suppress(OSError, ValueError):
        quota, period = (cgroup / "cpu.max").read_text().split()
        if quota != "max" and cores:
            cores = min(cores, max(1, -(-int(quota) // int(period))))
    return cores


def read_memory(meminfo: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")) -> Memory:
    """Main memory of this machine; in a container, at most what the container may use."""
    total = available = None
    if meminfo.is_file():
        lines = (line.split() for line in meminfo.read_text().splitlines())
        kilobytes = {parts[0].rstrip(":"): int(parts[1]) for parts in lines if len(parts) > 1}
        total = kilobytes["MemTotal"] * 1024 if "MemTotal" in kilobytes else None
        available = kilobytes["MemAvailable"] * 1024 if "MemAvailable" in kilobytes else None
        with contextlib.suppress(OSError, ValueError):  # the limit is "max" where there is none
            limit = int((cgroup / "memory.max").read_text())
            left = max(0, limit - int((cgroup / "memory.current").read_text()))
            total = min(total, limit) if total is not None else limit
            available = min(available, left) if available is not None else left
    elif sys.platform == "darwin":
        text = _sysctl("hw.memsize")
        total = int(text) if text else None
        available = _mac_available()
    elif hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Memory(total, available)


def free_disk(path: Path) -> int | None:
    """Bytes free where `path` is."""
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return None


def _windows_features() -> list[str]:
    """What the system's own question, IsProcessorFeaturePresent, can be asked: it knows which registers
    programs may use. Which instructions there are for those, the processor says.
    """
    present = getattr(ctypes, "windll").kernel32.IsProcessorFeaturePresent  # noqa: B009 (other systems lack it)
    features = [title for number, titles in _WINDOWS_FLAGS if present(number) for title in titles]
    if platform.machine() == "AMD64":
        with contextlib.suppress(OSError):
            usable = {one for one in cpuid_features() if ("AVX-512F" if "512" in one else "AVX2") in features}
            features += sorted(usable - {*features})
    return features


def _arm_features(auxv: Path) -> list[str]:
    """From pairs of machine words: number of an entry, its value."""
    entries: dict[int, int] = {}
    with contextlib.suppress(OSError, struct.error):
        entries = dict(struct.iter_unpack("=QQ", auxv.read_bytes()))
    return [title for entry, bit, title in _ARM_FLAGS if entries.get(entry, 0) >> bit & 1]


def _cpuinfo(text: str) -> dict[str, str]:
    """The first value of each key of /proc/cpuinfo."""
    facts: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            facts.setdefault(key.strip(), value.strip())
    return facts


def _sysctl(name: str) -> str | None:
    return run("sysctl", "-n", name)


def _mac_available() -> int | None:
    """Free and inactive pages of `vm_stat`: what macOS gives to programs without swapping."""
    text = run("vm_stat")
    if text is None:
        return None
    size, pages = 4096, 0
    for line in text.splitlines():
        if "page size of" in line:
            size = int(line.split("page size of")[1].split()[0])
        elif line.startswith(("Pages free:", "Pages inactive:")):
            pages += int(line.split(":")[1].strip(" ."))
    return pages * size or None


def run(*command: str) -> str | None:
    """What a command prints; None if it is not there, fails, prints nothing or takes longer than 5 s."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None

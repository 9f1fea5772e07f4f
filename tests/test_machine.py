"""Reading this machine: against the system's own answers, and from recorded files of other machines."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgellm import cpuid, machine
from edgellm.machine import read_cpu, read_memory, usable_cores

RASPBERRY_PI_5 = """processor\t: 0
BogoMIPS\t: 108.00
CPU implementer\t: 0x41

Model\t\t: Raspberry Pi 5 Model B Rev 1.0
"""
RASPBERRY_PI_5_HWCAP = 0x119FFF
WITH_I8MM = (0xEFB3FFFF, 0x6001)


def test_this_machine() -> None:
    cpu = read_cpu()
    assert cpu.architecture == platform.machine() and cpu.cores == os.cpu_count()
    assert cpu.usable_cores is not None and 1 <= cpu.usable_cores <= (cpu.cores or 1)
    memory = read_memory()
    if sys.platform.startswith("linux"):
        assert memory.total is not None and memory.available is not None
        assert 0 < memory.available <= memory.total


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have no /proc/cpuinfo")
def test_an_arm_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    (tmp_path / "cpuinfo").write_text(RASPBERRY_PI_5)

    def features(*entries: int) -> tuple[str, ...]:
        (tmp_path / "auxv").write_bytes(struct.pack(f"={len(entries)}Q", *entries))
        return read_cpu(tmp_path / "cpuinfo", tmp_path / "auxv").features

    assert read_cpu(tmp_path / "cpuinfo", tmp_path / "none").model == "Raspberry Pi 5 Model B Rev 1.0"
    assert read_cpu(tmp_path / "cpuinfo", tmp_path / "none").features == ()
    assert features(6, 4096, 16, RASPBERRY_PI_5_HWCAP, 26, 0, 0, 0) == ("NEON", "FP16", "dot product")
    first, second = WITH_I8MM
    assert features(16, first, 26, second, 0, 0) == ("NEON", "FP16", "dot product", "I8MM", "BF16")
    assert features(16, 0x8FB) == ("NEON",), "a Raspberry Pi 4"
    assert features(1) == ()


def test_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = SimpleNamespace(IsProcessorFeaturePresent=lambda number: number in (10, 39, 40))
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(ctypes, "windll", SimpleNamespace(kernel32=kernel), raising=False)
    monkeypatch.setattr(platform, "machine", lambda: "ARM64")
    assert read_cpu().features == ("AVX", "AVX2", "F16C", "FMA")
    monkeypatch.setattr(platform, "machine", lambda: "AMD64")
    said = {"AVX2", "AVX-VNNI", "AVX-512F", "AVX-512-VNNI"}
    monkeypatch.setattr(machine, "cpuid_features", lambda: said)
    assert read_cpu().features == ("AVX", "AVX2", "F16C", "FMA", "AVX-VNNI"), (
        "the system saves no ZMM registers"
    )


def test_a_containers_limits_count(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       16000000 kB\nMemFree: 1 kB\nMemAvailable:   8000000 kB\n")
    assert read_memory(meminfo, tmp_path) == machine.Memory(16_384_000_000, 8_192_000_000)
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert read_memory(meminfo, tmp_path).total == 16_384_000_000
    (tmp_path / "memory.max").write_text("1000000000\n")
    assert read_memory(meminfo, tmp_path) == machine.Memory(1_000_000_000, 999_999_000)
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert usable_cores(tmp_path) == 1


@pytest.mark.skipif(platform.machine() != "x86_64" or sys.platform != "linux", reason="asks an x86-64 Linux")
def test_the_processor_says_what_the_system_does() -> None:
    known = {name for *_, name in cpuid._BITS}
    assert cpuid.cpuid_features() == known & {*read_cpu().features}

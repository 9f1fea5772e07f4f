"""Who uses the processor: one process, and the whole machine. None where a system does not tell."""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path


def process_seconds(pid: int) -> float | None:
    """CPU seconds that process `pid` has used so far, all threads together (POSIX `clock_getcpuclockid`)."""
    try:
        find_clock = ctypes.CDLL(None).clock_getcpuclockid
    except (AttributeError, TypeError):  # macOS, Windows
        return None
    clock = ctypes.c_int()
    if find_clock(ctypes.c_int(pid), ctypes.byref(clock)):
        return None
    try:
        return time.clock_gettime(clock.value)
    except OSError:
        return None


def machine_seconds(stat: Path = Path("/proc/stat")) -> float | None:
    """CPU seconds that all cores together have not been idle, in steps of 10 ms (Linux, proc(5)).

    Time that a virtual machine's host gave to others ("steal") counts, as it is lost all the same.
    """
    try:
        with stat.open() as file:
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, file.readline().split()[1:9])
        return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError):
        return None

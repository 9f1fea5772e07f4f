"""How many threads computing on the CPU should use on this machine."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path


def usable_cores() -> int:
    """Physical cores that this process may use: its CPU affinity and its control group's quota counted."""
    cpus = _allowed_cpus()
    cores = len({_core_of(cpu) for cpu in cpus}) if sys.platform == "linux" else len(cpus)
    quota = _quota()
    return max(1, cores if quota is None else min(cores, quota))


def _allowed_cpus() -> set[int]:
    if sys.platform == "linux":
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _core_of(cpu: int) -> str:
    """Hyperthreads of one core share this name; a CPU of unknown topology is a core of its own."""
    try:
        return Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text().strip()
    except OSError:
        return f"cpu{cpu}"


def _quota() -> int | None:
    """CPUs that the control group grants, rounded up (containers); None without a quota."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return None if quota == "max" else math.ceil(int(quota) / int(period))
    except (OSError, ValueError, ZeroDivisionError):
        return None

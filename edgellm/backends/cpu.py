"""How many threads to compute with on this machine."""

from __future__ import annotations

import os
from pathlib import Path

from edgellm.machine import usable_cores


def compute_threads() -> int:
    """Physical cores that this process may use: hyperthreads gain nothing in matrix products."""
    return max(1, min(usable_cores() or 1, _physical_cores()))


def _physical_cores() -> int:
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    return len({_core_of(cpu) for cpu in os.sched_getaffinity(0)})


def _core_of(cpu: int) -> str:
    """The same name for hyperthreads of one core; a CPU of unknown topology is a core of its own."""
    try:
        return Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text().strip()
    except OSError:
        return f"cpu{cpu}"

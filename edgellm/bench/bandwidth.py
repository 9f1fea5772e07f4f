"""Read bandwidth of this machine's memory: the floor under every decode step at batch 1."""

from __future__ import annotations

import threading
import time

import numpy as np

BYTES = 512 << 20


def read_bandwidth(threads: int, rounds: int = 5) -> float:
    """Best of `rounds` passes over 512 MiB with `threads` threads, in GB/s (10^9 bytes).

    Each thread takes the maximum of its part, which numpy does with vector loads and without the GIL.
    """
    data = np.ones(BYTES // 8, np.int64)
    parts = np.array_split(data, threads)
    best = 0.0
    for _ in range(rounds):
        workers = [threading.Thread(target=part.max) for part in parts]
        start = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        best = max(best, data.nbytes / (time.perf_counter() - start) / 1e9)
    return best

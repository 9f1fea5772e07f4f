"""Read bandwidth of this machine's memory: the floor under every decode step at batch 1.

`python -m edgellm.bench.bandwidth THREADS` measures in a process of its own, so that the buffer is there only
while it is read.
"""

from __future__ import annotations

import ctypes
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgellm.errors import EdgeLLMError

BYTES = 512 << 20
"""Many times what the caches of a client's processor hold."""
CHUNK_BYTES = 4 << 20
PASSES = 7
_TURNS = 2
"""How often one pass reads the buffer, so that starting threads is below 1 % of it."""
_TIMEOUT_SECONDS = 120

Bytes = NDArray[np.uint8]
Reader = Callable[[Bytes, Bytes], object]
"""Reads all bytes of two equal arrays, without Python's lock."""


def measure_bandwidth(threads: int) -> float:
    """GB/s (10^9 bytes) that `threads` threads read now, measured in a process of its own within a second.

    Raises:
        EdgeLLMError: the process failed, most likely for want of memory.
    """
    command = [sys.executable, "-m", "edgellm.bench.bandwidth", str(threads)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False)
        return float(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        raise EdgeLLMError(
            f"the read bandwidth of memory could not be measured; it takes {BYTES >> 20} MiB of free memory"
        ) from None


def read_bandwidth(threads: int, size: int = BYTES, passes: int = PASSES) -> float:
    """GB/s of the fastest reader: the median of `passes` passes over `size` bytes of touched memory.

    Two streams are read at a time, as they let a core have more requests under way than one. Threads take
    chunks as they get to them, so that one which another program holds up does not hold up the rest.
    """
    memory = np.ones(size, np.uint8)
    half = size // 2
    chunks = [
        (memory[at : min(at + CHUNK_BYTES, half)], memory[half + at : half + min(at + CHUNK_BYTES, half)])
        for at in range(0, half, CHUNK_BYTES)
    ]
    return max(_median_speed(reader, chunks, threads, passes) for reader in _readers())


def _median_speed(reader: Reader, chunks: list[tuple[Bytes, Bytes]], threads: int, passes: int) -> float:
    size = _TURNS * sum(first.nbytes + second.nbytes for first, second in chunks)
    seconds = []
    for _ in range(passes):
        waiting = iter(_TURNS * chunks)  # a list's iterator may be shared: next() on it is atomic

        def read(waiting: object = waiting) -> None:
            for first, second in waiting:  # type: ignore[attr-defined]
                reader(first, second)

        workers = [threading.Thread(target=read) for _ in range(threads)]
        start = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        seconds.append(time.perf_counter() - start)
    return size / statistics.median(seconds) / 1e9


def _readers() -> list[Reader]:
    """C's `memcmp`, which is vector code wherever it matters, and numpy's maximum of integers."""
    readers: list[Reader] = [_maxima]
    library = ctypes.cdll.msvcrt if sys.platform == "win32" else ctypes.CDLL(None)
    memcmp = library.memcmp
    memcmp.argtypes, memcmp.restype = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t), ctypes.c_int

    def compare(first: Bytes, second: Bytes) -> None:
        if memcmp(first.ctypes.data, second.ctypes.data, first.nbytes):
            raise AssertionError("equal bytes compare as different")  # else it may not have read to the end

    return [*readers, compare]


def _maxima(first: Bytes, second: Bytes) -> None:
    for part in (first, second):
        part[: part.nbytes // 8 * 8].view(np.int64).max()


if __name__ == "__main__":
    print(read_bandwidth(int(sys.argv[1])))

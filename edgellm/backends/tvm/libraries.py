"""Compiled libraries: made by child processes, kept by the hash of what they depend on."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from edgellm.backends.cpu import compute_threads
from edgellm.backends.tvm.child import Child
from edgellm.compile.job import Job, Request
from edgellm.resources import cache_dir

KEPT_LIBRARIES = 128
"""Libraries in the cache at most, of half a megabyte or so; the ones unused for longest leave first."""
_STALE_SECONDS = 24 * 3600
_POLL_SECONDS = 0.02
_HASH_BYTES = 32


class Compilation:
    """Libraries being compiled while the caller does something else. Use `compiling`."""

    def __init__(self, jobs: Sequence[tuple[Job, Path]], dump: Path | None) -> None:
        self._dump = dump
        self._children: list[tuple[Child, Job, Path]] = []
        self._total, self._done = len(jobs), 0
        self._waiting = []
        for job, out in jobs:
            if dump is None and _take(job, out):
                self._done += 1
            else:
                self._waiting.append((job, out))
        self.poll()

    def poll(self) -> bool:
        """Collect what has finished and start what waits; True when all libraries are there.

        Raises:
            EdgeLLMError: one could not be compiled.
        """
        for running in list(self._children):
            child, job, out = running
            if child.done():
                self._children.remove(running)
                _keep(job, out)
                self._done += 1
        while self._waiting and len(self._children) < compute_threads():
            self._start(*self._waiting.pop(0))
        return not self._children

    def wait(self, progress: Callable[[int, int], None]) -> None:
        """Until all are there; `progress` hears of libraries done and in all."""
        progress(self._done, self._total)
        before = self._done
        while not self.poll():
            time.sleep(_POLL_SECONDS)
            if before != self._done:
                before = self._done
                progress(before, self._total)
        progress(self._total, self._total)

    def stop(self) -> None:
        """Kill what still runs."""
        for child, _, _ in self._children:
            child.stop()
        self._children.clear()

    def _start(self, job: Job, out: Path) -> None:
        dump = str(self._dump.resolve() / job.isa.name) if self._dump is not None else None
        request = msgspec.json.encode(Request(job, str(out.resolve()), dump))
        self._children.append((Child("edgellm.compile.job", request, f"for {job.isa.name}"), job, out))


@contextmanager
def compiling(jobs: Sequence[tuple[Job, Path]], dump: Path | None = None) -> Iterator[Compilation]:
    """Compile each job's library to its path, or take it from the cache; processes end with the block.

    The paths should lie in the folder of an unfinished bundle: whoever clears that up clears these up too.

    Args:
        dump: a directory that receives a folder for each instruction set with its phases; the cache is not
            asked then.
    """
    compilation = Compilation(jobs, dump)
    try:
        yield compilation
    finally:
        compilation.stop()


def _entry(job: Job) -> Path:
    return cache_dir("libraries") / f"{job.key()}.so"


def _take(job: Job, out: Path) -> bool:
    """Copy the job's library from the cache; False if it is not there or not whole."""
    try:
        data = _entry(job).read_bytes()
    except OSError:
        return False
    library, digest = data[:-_HASH_BYTES], data[-_HASH_BYTES:]
    if hashlib.sha256(library).digest() != digest:
        return False
    out.write_bytes(library)
    with suppress(OSError):
        os.utime(_entry(job))
    return True


def _keep(job: Job, made: Path) -> None:
    """Put a library into the cache, with its hash behind it. A cache that cannot be written is no error."""
    with suppress(OSError):
        entry = _entry(job)
        entry.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        data = made.read_bytes()
        temporary = entry.with_name(f".{entry.name}.{os.getpid()}")
        temporary.write_bytes(data + hashlib.sha256(data).digest())
        temporary.replace(entry)
        _tidy(entry.parent)


def _tidy(folder: Path) -> None:
    libraries = sorted(folder.glob("*.so"), key=lambda file: file.stat().st_mtime, reverse=True)
    abandoned = [f for f in folder.glob(".*.so.*") if time.time() - f.stat().st_mtime > _STALE_SECONDS]
    for file in [*libraries[KEPT_LIBRARIES:], *abandoned]:
        file.unlink(missing_ok=True)

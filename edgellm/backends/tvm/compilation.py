"""Compiling in child processes, several side by side; what comes out is kept by a hash of what went in."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from edgellm.backends.cpu import compute_threads
from edgellm.backends.tvm.child import Child

KEPT = 128
"""Entries of a folder of the cache at most, each of half a megabyte or so; those unused for longest leave."""
_STALE_SECONDS = 24 * 3600
_POLL_SECONDS = 0.02
_HASH_BYTES = 32


@dataclass(frozen=True)
class Task:
    """Something to compile.

    Attributes:
        what: is made, named when it fails. module, request: of the process that makes it, see `Child`.
        entry: its file in the cache. ask: whether it may come from there.
        read: what was made, as bytes. write: puts such bytes where the process would have.
    """

    what: str
    module: str
    request: bytes
    entry: Path
    read: Callable[[], bytes]
    write: Callable[[bytes], object]
    ask: bool = True


class Compilation:
    """Tasks being done while the caller does something else. Use `compiling`."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._children: list[tuple[Child, Task]] = []
        self._waiting = [task for task in tasks if not (task.ask and _take(task))]
        self._total, self._done = len(tasks), len(tasks) - len(self._waiting)
        self.poll()

    def poll(self) -> bool:
        """Collect what has finished and start what waits; True when everything is there.

        Raises:
            EdgeLLMError: one could not be compiled.
        """
        for running in list(self._children):
            child, task = running
            if child.done():
                self._children.remove(running)
                _keep(task)
                self._done += 1
        while self._waiting and len(self._children) < compute_threads():
            task = self._waiting.pop(0)
            self._children.append((Child(task.module, task.request, task.what), task))
        return not self._children

    def wait(self, progress: Callable[[int, int], None]) -> None:
        """Until everything is there; `progress` hears of tasks done and in all."""
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
        for child, _ in self._children:
            child.stop()
        self._children.clear()


@contextmanager
def compiling(tasks: Sequence[Task]) -> Iterator[Compilation]:
    """Do each task, or take what it makes from the cache; processes end with the block.

    What is made should lie in the folder of an unfinished bundle: whoever clears that up clears this up too.
    """
    compilation = Compilation(tasks)
    try:
        yield compilation
    finally:
        compilation.stop()


def _take(task: Task) -> bool:
    """Put what the cache has in place; False if it is not there or not whole."""
    try:
        data = task.entry.read_bytes()
    except OSError:
        return False
    made, digest = data[:-_HASH_BYTES], data[-_HASH_BYTES:]
    if hashlib.sha256(made).digest() != digest:
        return False
    task.write(made)
    with suppress(OSError):
        os.utime(task.entry)
    return True


def _keep(task: Task) -> None:
    """Put what was made into the cache, its hash behind it. A cache that cannot be written is no error."""
    with suppress(OSError):
        entry = task.entry
        entry.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        data = task.read()
        temporary = entry.with_name(f".{entry.name}.{os.getpid()}")
        temporary.write_bytes(data + hashlib.sha256(data).digest())
        temporary.replace(entry)
        _tidy(entry.parent)


def _tidy(folder: Path) -> None:
    files = sorted(folder.iterdir(), key=lambda file: file.stat().st_mtime, reverse=True)
    kept = [file for file in files if not file.name.startswith(".")]
    half = [file for file in files if file.name.startswith(".")]
    abandoned = [file for file in half if time.time() - file.stat().st_mtime > _STALE_SECONDS]
    for file in [*kept[KEPT:], *abandoned]:
        file.unlink(missing_ok=True)

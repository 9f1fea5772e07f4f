"""Engines in processes of their own: all stay loaded, one works at a time."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from types import TracebackType

import msgspec

from edgellm.bench.cases import Case, Sample
from edgellm.bench.cpu_time import process_seconds
from edgellm.bench.worker import Hello, WorkerSpec
from edgellm.errors import EdgeLLMError

_SETTLE_SECONDS = 0.3
"""Pause before a measurement where CPU times are unknown: thread pools spin for a while before they sleep."""
_LOOK_SECONDS = 0.05
_QUIET_SHARE = 0.02
_MAX_SETTLE_SECONDS = 5.0
_END_SECONDS = 20


class Worker:
    """An engine in its own process."""

    def __init__(self, spec: WorkerSpec) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "edgellm.bench.worker", msgspec.json.encode(spec).decode()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            hello = msgspec.json.decode(self._read(spec.kind), type=Hello)
            if hello.error:
                raise EdgeLLMError(f"{spec.kind} cannot be measured: {hello.error}")
        except BaseException:
            self.close()
            raise
        self.name, self.weight_bytes, self.gpu = hello.name, hello.weight_bytes, hello.gpu

    def measure(self, case: Case) -> Sample:
        """Run one case in the worker."""
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(case) + b"\n")
        self._process.stdin.flush()
        return msgspec.json.decode(self._read(self.name), type=Sample)

    def cpu_seconds(self) -> float | None:
        """CPU time of the process so far."""
        return process_seconds(self._process.pid)

    def _read(self, name: str) -> bytes:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise EdgeLLMError(f"the process measuring {name} ended with status {self._process.wait()}")
        return line

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.close()
            self._process.wait(timeout=_END_SECONDS)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def settle(workers: Sequence[Worker]) -> None:
    """Wait until no worker computes or spins any more: an idle engine must cost the next one nothing."""
    end = time.perf_counter() + _MAX_SETTLE_SECONDS
    before, at = _total(workers), time.perf_counter()
    if before is None:
        time.sleep(_SETTLE_SECONDS)
        return
    while time.perf_counter() < end:
        time.sleep(_LOOK_SECONDS)
        now, then = _total(workers), time.perf_counter()
        if now is None or now - before < _QUIET_SHARE * (then - at):
            return
        before, at = now, then


def _total(workers: Sequence[Worker]) -> float | None:
    times = [worker.cpu_seconds() for worker in workers]
    return None if None in times else sum(time for time in times if time is not None)

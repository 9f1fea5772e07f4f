"""Bandwidth and CPU time: that what is read is read, and that idle engines are idle."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgellm.bench import bandwidth
from edgellm.bench.cases import Case
from edgellm.bench.cpu_time import machine_seconds, process_seconds
from edgellm.bench.processes import Worker, settle
from edgellm.bench.worker import WorkerSpec
from edgellm.errors import EdgeLLMError

linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell the CPU time of others")


def test_every_byte_is_read_once_by_some_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[int, int]] = []

    def note(first: bandwidth.Bytes, second: bandwidth.Bytes) -> None:
        read.extend((part.ctypes.data, part.nbytes) for part in (first, second))

    monkeypatch.setattr(bandwidth, "_readers", lambda: [note])
    size = 5 * bandwidth.CHUNK_BYTES
    assert bandwidth.read_bandwidth(3, size, passes=1) > 0
    turns = bandwidth._TURNS
    counts = {piece: read.count(piece) for piece in read}
    assert set(counts.values()) == {turns}
    starts = sorted(counts)
    assert sum(length for _, length in starts) == size
    assert all(at + length == after for (at, length), (after, _) in itertools.pairwise(starts))


def test_readers_see_every_byte() -> None:
    a, b = np.ones(1 << 16, np.uint8), np.ones(1 << 16, np.uint8)
    compare = bandwidth._readers()[-1]
    compare(a, b)
    b[-1] = 2
    with pytest.raises(AssertionError):
        compare(a, b)


def test_bandwidth_of_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0.1 < bandwidth.measure_bandwidth(2) < 10_000
    monkeypatch.setattr(bandwidth, "BYTES", 1 << 62)
    with pytest.raises(MemoryError):
        bandwidth.read_bandwidth(1, bandwidth.BYTES)
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(EdgeLLMError, match="free memory"):
        bandwidth.measure_bandwidth(2)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that computes for 0.2 s when it is sent a line, and says so."""
    code = (
        "import sys, time\n"
        "for line in sys.stdin:\n"
        "    end = time.process_time() + 0.2\n"
        "    while time.process_time() < end: pass\n"
        "    print('done', flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


@linux
def test_cpu_time_of_another_process(sleeper: subprocess.Popen[bytes]) -> None:
    assert sleeper.stdin is not None and sleeper.stdout is not None
    machine = machine_seconds()
    for _ in range(2):
        before = process_seconds(sleeper.pid)
        sleeper.stdin.write(b"go\n")
        sleeper.stdin.flush()
        assert sleeper.stdout.readline() == b"done\n"
        after = process_seconds(sleeper.pid)
        assert before is not None and after is not None
        assert 0.15 < after - before < 1.0
    after_machine = machine_seconds()
    assert machine is not None and after_machine is not None and after_machine - machine > 0.3
    sleeper.kill()
    sleeper.wait()
    assert process_seconds(sleeper.pid) is None


def test_cpu_time_of_the_machine_is_all_but_idle_and_waiting(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  100 200 300 9000 8000 40 50 60 7 7\ncpu0 1 1 1 1 1 1 1 1 0 0\n")
    assert machine_seconds(stat) == pytest.approx(7.5)
    stat.write_text("nothing\n")
    assert machine_seconds(stat) is None


@linux
def test_an_engine_that_has_settled_uses_no_cpu(demo_bundle: Path) -> None:
    with Worker(WorkerSpec("edgellm", str(demo_bundle), 2, 4)) as worker:
        sample = worker.measure(Case(2, 16, 8))
        assert 0 < sample.prefill_s < sample.total_s
        settle([worker])
        before = worker.cpu_seconds()
        time.sleep(0.5)
        after = worker.cpu_seconds()
        assert before is not None and after is not None and after - before < 0.05
    assert worker.cpu_seconds() is None


def test_a_worker_that_cannot_load_says_why(tmp_path: Path) -> None:
    with pytest.raises(EdgeLLMError, match=r"cannot be measured.*does not exist"):
        Worker(WorkerSpec("edgellm", str(tmp_path / "nothing"), 1, 1))

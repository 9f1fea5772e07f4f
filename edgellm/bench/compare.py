"""Engines taking turns: every round measures every case on every engine, and medians are reported."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from types import TracebackType

import msgspec

from edgellm.bench.cases import Case, Sample, median, tokens_per_second
from edgellm.bench.worker import Hello, WorkerSpec
from edgellm.errors import EdgeLLMError

SETTLE_SECONDS = 0.3
"""Pause between measurements: OpenMP threads of the engine before spin for a while before they sleep."""


class Line(msgspec.Struct, frozen=True):
    """What `edgellm bench` reports of one engine and case; medians over the rounds.

    Attributes:
        gbps: weight bytes read per second of decoding, in 10^9 bytes: each step reads all weights once.
    """

    engine: str
    batch: int
    prompt: int
    new: int
    prefill_tps: float
    decode_tps: float
    ttft_ms: float
    peak_rss_mb: float
    gbps: float
    rounds: int


class Worker:
    """An engine in its own process."""

    def __init__(self, spec: WorkerSpec) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "edgellm.bench.worker", msgspec.json.encode(spec).decode()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        hello = msgspec.json.decode(self._read(spec.kind), type=Hello)
        if hello.error:
            self.close()
            raise EdgeLLMError(f"{spec.kind} cannot be measured: {hello.error}")
        self.name, self.weight_bytes = hello.name, hello.weight_bytes

    def measure(self, case: Case) -> Sample:
        """Run one case in the worker."""
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(case) + b"\n")
        self._process.stdin.flush()
        return msgspec.json.decode(self._read(self.name), type=Sample)

    def _read(self, name: str) -> bytes:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise EdgeLLMError(f"the process measuring {name} ended with status {self._process.wait()}")
        return line

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def run_rounds(
    workers: Sequence[Worker], cases: Sequence[Case], rounds: int
) -> Iterator[tuple[Worker, Case, Sample]]:
    """Samples as they come. Engines alternate within a case, and the order turns from round to round."""
    for number in range(rounds):
        order = list(workers) if number % 2 == 0 else list(reversed(workers))
        for case in cases:
            for worker in order:
                time.sleep(SETTLE_SECONDS)
                yield worker, case, worker.measure(case)


def summarize(worker: Worker, case: Case, samples: Sequence[Sample]) -> Line:
    """Medians of one engine's samples of one case."""
    middle = median(samples)
    if middle.total_s <= middle.prefill_s:
        raise EdgeLLMError(f"{case.new} new tokens are too few to measure on this model; raise --new")
    prefill, decode = tokens_per_second(case, middle)
    return Line(
        engine=worker.name,
        batch=case.batch,
        prompt=case.prompt,
        new=case.new,
        prefill_tps=round(prefill, 2),
        decode_tps=round(decode, 2),
        ttft_ms=round(1000 * middle.ttft_s, 2),
        peak_rss_mb=round(middle.peak_rss_mb, 1),
        gbps=round(decode / case.batch * worker.weight_bytes / 1e9, 2),
        rounds=len(samples),
    )


def ratios(lines: Sequence[Line], ours: str) -> list[dict[str, float | str | int]]:
    """Our speed divided by each peer's, case by case."""
    own = {(line.batch, line.prompt): line for line in lines if line.engine == ours}
    return [
        {
            "peer": line.engine,
            "batch": line.batch,
            "prompt": line.prompt,
            "prefill_ratio": round(own[line.batch, line.prompt].prefill_tps / line.prefill_tps, 3),
            "decode_ratio": round(own[line.batch, line.prompt].decode_tps / line.decode_tps, 3),
        }
        for line in lines
        if line.engine != ours and (line.batch, line.prompt) in own
    ]

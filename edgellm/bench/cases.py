"""What is measured: fixed prompts and lengths, so that every engine does the same work."""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
from msgspec import UNSET, UnsetType

LONG_ENOUGH_SECONDS = 0.5
MAX_REPEATS = 31
_ATTEMPTS = 4


class Case(msgspec.Struct, frozen=True):
    """`batch` prompts of `prompt` tokens each, continued by `new` tokens each."""

    batch: int
    prompt: int
    new: int


class GpuStep(msgspec.Struct, frozen=True):
    """A decode step of a case on a GPU, halfway through the new tokens.

    Attributes:
        launches, launches_per_layer, moved_bytes, least_bytes: see `edgellm.bench.traffic`.
        step_s: from the results of the step before to its own. wait_s: waiting for the device. host_s: the
            executor's own time: packing, encoding, submitting, unpacking. submit_s: of that, until the device
            had the whole step.
    """

    launches: int
    launches_per_layer: float
    moved_bytes: int
    least_bytes: int
    step_s: float
    submit_s: float
    wait_s: float
    host_s: float


class GpuFacts(msgspec.Struct, frozen=True):
    """What runs a GPU bundle.

    Attributes:
        adapter, api, driver: as `edgellm doctor` names them. software: it computes on the processor.
        through: the package. program: of the bundle's, the one that runs.
        copy_gbps: 10^9 bytes a second that a copy on the device reads and writes together.
    """

    adapter: str
    api: str
    driver: str
    software: bool
    through: str
    program: str
    copy_gbps: float


class Sample(msgspec.Struct, frozen=True):
    """One measurement of one case, in seconds.

    Attributes:
        prefill_s: all prompts taken in and one token of each chosen.
        total_s: the same, and `new` tokens of each chosen.
        ttft_s: time to the first token, the median over the prompts.
        peak_rss_mb: most memory the process has held so far, in MB (10^6 bytes).
        gpu: a decode step, where a GPU runs it.
    """

    prefill_s: float
    total_s: float
    ttft_s: float
    peak_rss_mb: float
    gpu: GpuStep | UnsetType = UNSET


class Runner(Protocol):
    """An engine, loaded and ready."""

    name: str
    weight_bytes: int
    """Bytes of weights that each decode step reads."""
    gpu: GpuFacts | None

    def measure(self, case: Case) -> Sample: ...


def prompt_ids(row: int, length: int, vocab_size: int) -> list[int]:
    """Token ids of prompt number `row`; the same for every engine, with few repeats and no special ids."""
    if vocab_size >= 1600:
        return [(37 * i + 11 * row) % 1500 + 100 for i in range(length)]
    low = min(100, vocab_size // 4)
    return [(37 * i + 11 * row) % (vocab_size - low) + low for i in range(length)]


def tokens_per_second(case: Case, sample: Sample) -> tuple[float, float]:
    """(prefill, decode) in tokens/s over the whole batch; the first new token counts as prefill."""
    decode_s = sample.total_s - sample.prefill_s
    return case.batch * case.prompt / sample.prefill_s, case.batch * (case.new - 1) / decode_s


def median(samples: Sequence[Sample]) -> Sample:
    """Medians of the durations, one by one, and the highest peak of memory."""
    steps = [s.gpu for s in samples if s.gpu is not UNSET]
    gpu = (
        UNSET
        if not steps
        else msgspec.structs.replace(
            steps[0],
            **{
                name: statistics.median(getattr(one, name) for one in steps)
                for name in ("step_s", "submit_s", "wait_s", "host_s")
            },
        )
    )
    return Sample(
        prefill_s=statistics.median(s.prefill_s for s in samples),
        total_s=statistics.median(s.total_s for s in samples),
        ttft_s=statistics.median(s.ttft_s for s in samples),
        peak_rss_mb=max(s.peak_rss_mb for s in samples),
        gpu=gpu,
    )


def measure_long_enough(runner: Runner, case: Case) -> Sample:
    """Measure a case once, or as often as fits into `LONG_ENOUGH_SECONDS` where it is shorter: medians.

    Where a disturbance made taking the prompts in longer than that and decoding, it is measured again.
    """
    for _ in range(_ATTEMPTS):
        samples: list[Sample] = []
        deadline = time.perf_counter() + LONG_ENOUGH_SECONDS
        while not samples or (time.perf_counter() < deadline and len(samples) < MAX_REPEATS):
            samples.append(runner.measure(case))
        middle = median(samples)
        if middle.total_s > middle.prefill_s:
            break
    return middle


def peak_rss_mb() -> float:
    """Most resident memory this process has held, in MB."""
    # Linux lets a child inherit its parent's peak in getrusage, so its own high-water mark comes first.
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024 / 1e6
    import resource

    peak: Any = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak) * (1 if sys.platform == "darwin" else 1024) / 1e6

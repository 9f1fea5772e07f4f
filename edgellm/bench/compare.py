"""Engines taking turns: every round measures every case on every engine, and medians are reported."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence

import msgspec
from msgspec import UNSET, UnsetType

from edgellm.bench.bandwidth import measure_bandwidth
from edgellm.bench.cases import Case, GpuFacts, GpuStep, Sample, median, tokens_per_second
from edgellm.bench.cpu_time import machine_seconds
from edgellm.bench.processes import Worker, settle
from edgellm.errors import EdgeLLMError


class Measurement(msgspec.Struct, frozen=True):
    """One engine, one case, one round.

    Attributes:
        bandwidth_gbps: what the memory gave right before this case of this round, in 10^9 bytes a second;
            the memory of a GPU, when it was opened.
        others_cores: CPU time that all but the measured engine used meanwhile, as a number of cores; None
            where the system does not tell.
    """

    engine: str
    case: Case
    round: int
    sample: Sample
    bandwidth_gbps: float
    others_cores: float | None


class GpuLine(msgspec.Struct, frozen=True):
    """A decode step on a GPU; times are medians over the rounds.

    Attributes:
        runs_on: the adapter. The next four: see `edgellm.bench.traffic`.
        step_ms: from the results of one step to those of the next. wait_ms: of it, waiting for the device.
            host_ms: packing, encoding, submitting and unpacking, of which submit_ms until the device had it
            all. engine_ms: scheduling, sampling, and passing tokens on.
    """

    runs_on: GpuFacts
    launches: int
    launches_per_layer: float
    moved_bytes: int
    least_bytes: int
    step_ms: float
    wait_ms: float
    host_ms: float
    submit_ms: float
    engine_ms: float


class Line(msgspec.Struct, frozen=True):
    """What is reported of one engine and case; medians over the rounds.

    Attributes:
        prefill_tps: prompt tokens a second, until each prompt has its first new token.
        decode_tps: new tokens a second after the first ones, over the whole batch.
        ttft_ms: time to a prompt's first new token. peak_rss_mb: most memory held so far, in 10^6 bytes.
        gbps: weight bytes that decoding reads, in 10^9 a second: each step reads all but the embedding once.
            On a GPU: the bytes that any program must move.
        read_bandwidth_gbps: what the memory gives; a GPU's to a copy.
        bandwidth_percent: gbps as a part of it.
        others_cores: CPU time that others used meanwhile, as a number of cores.
        gpu: more about the step, where a GPU runs it.
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
    read_bandwidth_gbps: float
    bandwidth_percent: float
    rounds: int
    others_cores: float | None = None
    gpu: GpuLine | UnsetType = UNSET


def run_rounds(
    workers: Sequence[Worker], cases: Sequence[Case], rounds: int, threads: int
) -> Iterator[Measurement]:
    """Measurements as they come. Engines alternate within a case, and the order turns from round to round.

    Args:
        threads: that read memory when its bandwidth is measured, before each case of each round.
    """
    for number in range(rounds):
        order = list(workers) if number % 2 == 0 else list(reversed(workers))
        for case in cases:
            settle(workers)
            memory = 0.0
            if any(worker.gpu is None for worker in workers):
                memory = round(measure_bandwidth(threads), 2)
            for worker in order:
                settle(workers)
                bandwidth = memory if worker.gpu is None else worker.gpu.copy_gbps
                sample, others = _measure(worker, case)
                yield Measurement(worker.name, case, number, sample, bandwidth, others)


def _measure(worker: Worker, case: Case) -> tuple[Sample, float | None]:
    start, machine, own = time.perf_counter(), machine_seconds(), worker.cpu_seconds()
    sample = worker.measure(case)
    seconds, machine_after, own_after = time.perf_counter() - start, machine_seconds(), worker.cpu_seconds()
    if machine is None or own is None or machine_after is None or own_after is None:
        return sample, None
    return sample, round(max(0.0, machine_after - machine - (own_after - own)) / seconds, 3)


def summarize(measured: Sequence[Measurement], step_bytes: float, facts: GpuFacts | None = None) -> Line:
    """Medians of one engine's measurements of one case.

    Args:
        step_bytes: bytes of weights that a decode step reads. facts: of the GPU that it runs on.
    """
    engine, case = measured[0].engine, measured[0].case
    middle = median([one.sample for one in measured])
    if middle.total_s <= middle.prefill_s:
        raise EdgeLLMError(f"{case.new} new tokens are too few to measure on this model; raise --new")
    prefill, decode = tokens_per_second(case, middle)
    gbps = decode / case.batch * step_bytes / 1e9
    if middle.gpu is not UNSET:
        gbps = middle.gpu.least_bytes / middle.gpu.step_s / 1e9
    bandwidth = statistics.median(one.bandwidth_gbps for one in measured)
    others = [one.others_cores for one in measured if one.others_cores is not None]
    return Line(
        engine=engine,
        batch=case.batch,
        prompt=case.prompt,
        new=case.new,
        prefill_tps=round(prefill, 2),
        decode_tps=round(decode, 2),
        ttft_ms=round(1000 * middle.ttft_s, 2),
        peak_rss_mb=round(middle.peak_rss_mb, 1),
        gbps=round(gbps, 3),
        read_bandwidth_gbps=round(bandwidth, 2),
        bandwidth_percent=round(100 * gbps / bandwidth, 1),
        rounds=len(measured),
        others_cores=round(statistics.median(others), 3) if others else None,
        gpu=UNSET if facts is None or middle.gpu is UNSET else _gpu_line(facts, middle.gpu),
    )


def _gpu_line(facts: GpuFacts, step: GpuStep) -> GpuLine:
    return GpuLine(
        runs_on=facts,
        launches=step.launches,
        launches_per_layer=step.launches_per_layer,
        moved_bytes=step.moved_bytes,
        least_bytes=step.least_bytes,
        step_ms=round(1000 * step.step_s, 3),
        wait_ms=round(1000 * step.wait_s, 3),
        host_ms=round(1000 * step.host_s, 3),
        submit_ms=round(1000 * step.submit_s, 3),
        engine_ms=round(1000 * (step.step_s - step.wait_s - step.host_s), 3),
    )


def summarize_all(
    measured: Sequence[Measurement], workers: Sequence[Worker], cases: Sequence[Case], share: float
) -> list[Line]:
    """A line for each case and worker, in this order. `share`: of the weights that a decode step reads."""
    return [
        summarize(
            [one for one in measured if one.engine == worker.name and one.case == case],
            worker.weight_bytes * share,
            worker.gpu,
        )
        for case in cases
        for worker in workers
    ]


class Ratio(msgspec.Struct, frozen=True):
    """Our speed divided by a peer's."""

    peer: str
    batch: int
    prompt: int
    prefill_ratio: float
    decode_ratio: float


def ratios(lines: Sequence[Line], ours: str) -> list[Ratio]:
    """Engine `ours` against each other engine, case by case."""
    own = {(line.batch, line.prompt, line.new): line for line in lines if line.engine == ours}
    return [
        Ratio(
            peer=line.engine,
            batch=line.batch,
            prompt=line.prompt,
            prefill_ratio=round(own[line.batch, line.prompt, line.new].prefill_tps / line.prefill_tps, 3),
            decode_ratio=round(own[line.batch, line.prompt, line.new].decode_tps / line.decode_tps, 3),
        )
        for line in lines
        if line.engine != ours and (line.batch, line.prompt, line.new) in own
    ]

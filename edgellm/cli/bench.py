"""`edgellm bench`: tokens per second of a bundle, beside peers measured in the same run."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click
from msgspec import UNSET, UnsetType

from edgellm.cli.options import kv_option
from edgellm.cli.output import json_option, note, print_json, print_table
from edgellm.errors import UsageError

if TYPE_CHECKING:
    from edgellm.bench.cases import Case
    from edgellm.bench.compare import Line, Measurement, Ratio
    from edgellm.bench.conversions import Conversions
    from edgellm.bench.worker import WorkerSpec
    from edgellm.bundle import Bundle

PEERS = ("llamacpp", "ctranslate2")
_GGUF_QUANT = {"int4": "q4_0", "int8": "q8_0", "fp32": "f32", "fp16": "f16"}
_CTRANSLATE2_QUANT = {"int4": "int8", "int8": "int8", "fp32": "fp32", "fp16": "fp32"}
"""The peers' nearest to each quantization."""
_BUSY_CORES = 0.1
"""Figures deserve a warning when others used more of the processor than this."""


def _numbers(ctx: click.Context, param: click.Parameter, value: str) -> list[int]:
    """A comma-separated list of positive whole numbers."""
    try:
        numbers = [int(part) for part in value.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1 or max(numbers) > 4096:
        raise click.BadParameter(f"{value!r} is not a list like 1,4,8", ctx, param)
    return list(dict.fromkeys(numbers))


@click.command()
@click.argument("bundle", type=click.Path())
@click.option("--batch", callback=_numbers, default="1,4,8", show_default=True, help="Batch sizes.")
@click.option("--prompt", callback=_numbers, default="64", show_default=True, help="Prompt tokens.")
@click.option("--new", type=click.IntRange(2, 4096), default=32, show_default=True, help="New tokens.")
@click.option(
    "--threads", type=click.IntRange(1, 1024), help="CPU threads, for every engine. [default: one a core]"
)
@kv_option
@click.option(
    "--rounds", type=click.IntRange(1, 100), default=3, show_default=True, help="Medians of this many."
)
@click.option("--compare", default="", metavar="PEERS", help=f"Peers to measure too: {', '.join(PEERS)}.")
@click.option("--checkpoint", metavar="MODEL", help="The bundle's checkpoint, to convert for a peer.")
@click.option("--gguf", type=click.Path(), help="A GGUF file for llama.cpp instead of converting.")
@click.option(
    "--keep", type=click.Path(), metavar="DIR", help="Keep conversions in DIR, and take them from there."
)
@click.option("--plot", "plot_file", type=click.Path(), metavar="FILE.png", help="Draw the result.")
@json_option
def bench(
    bundle: str,
    batch: list[int],
    prompt: list[int],
    new: int,
    threads: int | None,
    kv: str | None,
    rounds: int,
    compare: str,
    checkpoint: str | None,
    gguf: str | None,
    keep: str | None,
    plot_file: str | None,
    as_json: bool,
) -> None:
    """Measure tokens per second of a bundle, beside peers in the same run.

    Every engine gets the same token ids in a process of its own; engines take turns, and medians over
    the rounds are printed. Prefill counts the prompts' tokens until each has its first new token; decode
    counts the tokens after that. Only figures of one run on a quiet machine can be compared.

    Peers get the weights in their nearest format: llama.cpp q4_0 or q8_0, CTranslate2 called directly int8.

    A bundle on a GPU shows its decode steps too: launches, bytes moved against the least that any program
    moves, and the time of device and host.
    """
    from edgellm.backends.cpu import compute_threads
    from edgellm.bench.cases import Case
    from edgellm.bench.compare import ratios, run_rounds, summarize_all
    from edgellm.bench.processes import Worker
    from edgellm.bench.weights import read_share
    from edgellm.bundle import Bundle

    opened = Bundle.open(bundle)
    cases = [Case(b, p, new) for p in prompt for b in batch]
    _check_room(opened, cases)
    threads = threads or compute_threads()
    measured: list[Measurement] = []
    with ExitStack() as stack:
        specs = _specs(opened, compare, threads, kv, cases, checkpoint, gguf, keep, stack)
        workers = [stack.enter_context(Worker(spec)) for spec in specs]
        total = rounds * len(cases) * len(workers)
        for one in run_rounds(workers, cases, rounds, threads):
            measured.append(one)
            _progress(len(measured), total)
        lines = summarize_all(measured, workers, cases, read_share(opened.manifest.model))
    compared = ratios(lines, workers[0].name)
    spans = {one.name: _span(measured, one.name) for one in workers}
    if as_json:
        _print_json(lines, compared, spans)
    else:
        _print_table(lines, compared, spans)
    busy = max((line.others_cores or 0.0 for line in lines), default=0.0)
    if busy > _BUSY_CORES:
        note(f"other programs used up to {busy:.1f} cores meanwhile: measure again on a quiet machine")
    if plot_file is not None:
        from edgellm.bench.plot import plot

        plot(lines, Path(plot_file), f"{opened.manifest.source.name}, {threads} threads")


def _span(measured: list[Measurement], engine: str) -> tuple[float, float]:
    """The lowest and the highest of what memory gave while an engine was measured, in GB/s."""
    found = [one.bandwidth_gbps for one in measured if one.engine == engine]
    return min(found), max(found)


def _longest(cases: list[Case]) -> int:
    """Tokens of the longest sequence, warming up included."""
    return max(16, *(case.prompt + case.new for case in cases))


def _check_room(bundle: Bundle, cases: list[Case]) -> None:
    longest = _longest(cases)
    if longest > bundle.manifest.context:
        raise UsageError(
            f"prompt and new tokens make {longest}, but the bundle's context is {bundle.manifest.context}; "
            "lower --prompt or --new"
        )


def _specs(
    bundle: Bundle,
    compare: str,
    threads: int,
    kv: str | None,
    cases: list[Case],
    checkpoint: str | None,
    gguf: str | None,
    keep: str | None,
    stack: ExitStack,
) -> list[WorkerSpec]:
    """What to load: the bundle first, then the peers asked for, converted where needed."""
    from edgellm.bench.worker import WorkerSpec

    peers = list(dict.fromkeys(name.strip() for name in compare.split(",") if name.strip()))
    if unknown := [name for name in peers if name not in PEERS]:
        raise UsageError(f"no peer is called {unknown[0]!r}; known are {', '.join(PEERS)}")
    max_batch = max(case.batch for case in cases)
    specs = [WorkerSpec("edgellm", str(bundle.path), threads, max_batch, _longest(cases), kv)]
    for peer in peers:
        if peer == "llamacpp":
            if gguf is None:
                quant = _GGUF_QUANT[bundle.manifest.quant]
                gguf = str(_conversions(peer, checkpoint, keep, stack).gguf(quant))
            specs.append(WorkerSpec("llamacpp", gguf, threads, max_batch))
        else:
            if bundle.manifest.backend == "ctranslate2":
                directory = bundle.path / "ctranslate2"
            else:
                quant = _CTRANSLATE2_QUANT[bundle.manifest.quant]
                directory = _conversions(peer, checkpoint, keep, stack).ctranslate2(quant)
            specs.append(WorkerSpec("ctranslate2", str(directory), threads, max_batch))
    return specs


def _conversions(peer: str, checkpoint: str | None, keep: str | None, stack: ExitStack) -> Conversions:
    """Converts into `keep`, or else into a temporary directory."""
    import tempfile

    from edgellm.bench.conversions import Conversions

    if checkpoint is None:
        instead = " or --gguf FILE" if peer == "llamacpp" else ""
        raise UsageError(f"{peer} needs the weights in its own format: give --checkpoint MODEL{instead}")
    directory = keep or stack.enter_context(tempfile.TemporaryDirectory(prefix="edgellm-bench-"))
    return Conversions(checkpoint, Path(directory).expanduser(), note)


def _progress(done: int, total: int) -> None:
    import sys

    if sys.stderr.isatty():
        click.echo(f"\rmeasured {done} of {total}", nl=done == total, err=True)


def _print_json(lines: list[Line], compared: list[Ratio], spans: dict[str, tuple[float, float]]) -> None:
    import msgspec

    by_case = {(ratio.peer, ratio.batch, ratio.prompt): ratio for ratio in compared}
    for line in lines:
        described = msgspec.to_builtins(line)
        low, high = spans[line.engine]
        described["read_bandwidth_min_gbps"], described["read_bandwidth_max_gbps"] = low, high
        if ratio := by_case.get((line.engine, line.batch, line.prompt)):
            described["edgellm_prefill_ratio"] = ratio.prefill_ratio
            described["edgellm_decode_ratio"] = ratio.decode_ratio
        print_json(described)


def _print_gpu(lines: list[Line]) -> None:
    """The decode steps of a bundle on a GPU, and what the GPU is."""
    steps = [(line, line.gpu) for line in lines if not isinstance(line.gpu, UnsetType)]
    if not steps:
        return
    print_table(
        (
            "batch", "prompt", "launches", "a layer", "moved MB", "least MB", "GB/s of least", "step ms",
            "device ms", "host ms", "engine ms",
        ),
        [
            (
                str(line.batch),
                str(line.prompt),
                str(gpu.launches),
                f"{gpu.launches_per_layer:.1f}",
                f"{gpu.moved_bytes / 1e6:.2f} ({gpu.moved_bytes / gpu.least_bytes:.2f} ×)",
                f"{gpu.least_bytes / 1e6:.2f}",
                f"{line.gbps:.2f} ({line.bandwidth_percent:.0f} % of a copy)",
                f"{gpu.step_ms:.2f}",
                f"{gpu.wait_ms:.2f}",
                f"{gpu.host_ms:.2f}",
                f"{gpu.engine_ms:.2f}",
            )
            for line, gpu in steps
        ],
        title="decode steps",
    )  # fmt: skip
    facts = steps[0][1].runs_on
    driver = f", {facts.driver}" if facts.driver else ""
    click.echo(
        f"on {facts.adapter} ({facts.api}{driver}) through {facts.through}, program {facts.program}; a copy "
        f"there reads and writes {facts.copy_gbps:.1f} GB/s"
    )
    if facts.software:
        click.echo(
            "this adapter is software: it computes on the processor, and says nothing of a GPU's speed"
        )
    click.echo(
        "device ms: waiting for it. host ms: packing, encoding, submitting, unpacking. engine ms: the rest"
    )


def _print_table(lines: list[Line], compared: list[Ratio], spans: dict[str, tuple[float, float]]) -> None:
    by_case = {(ratio.peer, ratio.batch, ratio.prompt): ratio for ratio in compared}
    rows = []
    for line in lines:
        ratio = by_case.get((line.engine, line.batch, line.prompt))
        rows.append(
            (
                line.engine,
                str(line.batch),
                str(line.prompt),
                f"{line.prefill_tps:.1f}",
                f"{line.decode_tps:.1f}",
                f"{line.gbps:.1f} ({line.bandwidth_percent:.0f} %)",
                f"{line.ttft_ms:.0f}",
                f"{line.peak_rss_mb:.0f}",
                f"{ratio.prefill_ratio:.2f} / {ratio.decode_ratio:.2f}" if ratio else "",
            )
        )
    print_table(
        ("engine", "batch", "prompt", "prefill tok/s", "decode tok/s", "GB/s", "TTFT ms", "peak MB", "×"),
        rows,
    )
    if processor := [line.engine for line in lines if line.gpu is UNSET]:
        low, high = spans[processor[0]]
        span = f"{low:.0f} to {high:.0f}"
        click.echo(f"GB/s: weights read while decoding, and their part of what memory gives ({span})")
    _print_gpu([line for line in lines if line.gpu is not UNSET])
    if compared:
        click.echo("×: edgellm's speed divided by that engine's, prefill / decode")

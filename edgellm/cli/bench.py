"""`edgellm bench`: tokens per second of a bundle, beside peers measured in the same run."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgellm.cli.output import json_option, print_json, print_table
from edgellm.errors import UsageError

if TYPE_CHECKING:
    from edgellm.bench.cases import Case
    from edgellm.bench.compare import Line
    from edgellm.bench.worker import WorkerSpec
    from edgellm.bundle import Bundle

PEERS = ("llamacpp", "ctranslate2")
_GGUF_QUANT = {"int4": "q4_0", "int8": "q8_0", "fp32": "f32", "fp16": "f16"}


def _numbers(ctx: click.Context, param: click.Parameter, value: str) -> list[int]:
    """A comma-separated list of positive whole numbers."""
    try:
        numbers = [int(part) for part in value.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1 or max(numbers) > 4096:
        raise click.BadParameter(f"{value!r} is not a list like 1,4,8", ctx, param)
    return numbers


@click.command()
@click.argument("bundle", type=click.Path())
@click.option("--batch", callback=_numbers, default="1,4,8", show_default=True, help="Batch sizes.")
@click.option("--prompt", callback=_numbers, default="64", show_default=True, help="Prompt tokens.")
@click.option("--new", type=click.IntRange(2, 4096), default=32, show_default=True, help="New tokens.")
@click.option("--threads", type=click.IntRange(1, 1024), help="CPU threads, for every engine.")
@click.option(
    "--rounds", type=click.IntRange(1, 100), default=3, show_default=True, help="Medians of this many."
)
@click.option("--compare", default="", metavar="PEERS", help=f"Peers to measure too: {', '.join(PEERS)}.")
@click.option("--checkpoint", type=click.Path(), help="The bundle's checkpoint, to convert for a peer.")
@click.option("--gguf", type=click.Path(), help="A GGUF file for llama.cpp instead of converting.")
@click.option("--plot", "plot_file", type=click.Path(), metavar="FILE.png", help="Draw the result.")
@json_option
def bench(
    bundle: str,
    batch: list[int],
    prompt: list[int],
    new: int,
    threads: int | None,
    rounds: int,
    compare: str,
    checkpoint: str | None,
    gguf: str | None,
    plot_file: str | None,
    as_json: bool,
) -> None:
    """Measure tokens per second of a bundle, beside peers in the same run.

    Every engine gets the same token ids in a process of its own; engines take turns, and medians over
    the rounds are printed. Prefill counts the prompts' tokens until each has its first new token; decode
    counts the tokens after that. Only figures of one run on a quiet machine can be compared.
    """
    from edgellm.bench.bandwidth import read_bandwidth
    from edgellm.bench.cases import Case
    from edgellm.bench.compare import Worker, ratios, run_rounds, summarize
    from edgellm.bundle import Bundle
    from edgellm.machine import usable_cores

    opened = Bundle.open(bundle)
    cases = [Case(b, p, new) for p in prompt for b in batch]
    _check_room(opened, cases)
    with ExitStack() as stack:
        specs = _specs(opened, compare, threads, max(batch), checkpoint, gguf, stack)
        bandwidth = read_bandwidth(threads or usable_cores() or 1)
        workers = [stack.enter_context(Worker(spec)) for spec in specs]
        samples: dict[tuple[str, Case], list[Any]] = {}
        for number, (worker, case, sample) in enumerate(run_rounds(workers, cases, rounds)):
            samples.setdefault((worker.name, case), []).append(sample)
            _progress(number + 1, rounds * len(cases) * len(workers))
        lines = [summarize(worker, case, samples[worker.name, case]) for case in cases for worker in workers]
    compared = ratios(lines, workers[0].name)
    if as_json:
        _print_json(lines, compared, bandwidth)
    else:
        _print_table(lines, compared, bandwidth)
    if plot_file is not None:
        from edgellm.bench.plot import plot

        plot(lines, Path(plot_file), f"{opened.manifest.source.name}, {threads or usable_cores()} threads")


def _check_room(bundle: Bundle, cases: list[Case]) -> None:
    longest = max(case.prompt + case.new for case in cases)
    if longest > bundle.manifest.context:
        raise UsageError(
            f"prompt and new tokens make {longest}, but the bundle's context is {bundle.manifest.context}; "
            "lower --prompt or --new"
        )


def _specs(
    bundle: Bundle,
    compare: str,
    threads: int | None,
    max_batch: int,
    checkpoint: str | None,
    gguf: str | None,
    stack: ExitStack,
) -> list[WorkerSpec]:
    """What to load: the bundle first, then the peers asked for, converted where needed."""
    from edgellm.bench.worker import WorkerSpec

    peers = [name.strip() for name in compare.split(",") if name.strip()]
    if unknown := [name for name in peers if name not in PEERS]:
        raise UsageError(f"no peer is called {unknown[0]!r}; known are {', '.join(PEERS)}")
    specs = [WorkerSpec("edgellm", str(bundle.path), threads, max_batch)]
    for peer in peers:
        if peer == "llamacpp":
            path = gguf or _convert_gguf(bundle, checkpoint, stack)
            specs.append(WorkerSpec("llamacpp", path, threads, max_batch))
        elif bundle.manifest.backend == "ctranslate2":
            specs.append(WorkerSpec("ctranslate2", str(bundle.path / "ctranslate2"), threads, max_batch))
        else:
            raise UsageError("ctranslate2 can only be compared on a bundle of the ctranslate2 backend")
    return specs


def _convert_gguf(bundle: Bundle, checkpoint: str | None, stack: ExitStack) -> str:
    """Write the checkpoint as GGUF into a temporary directory, quantized like the bundle."""
    import tempfile

    from edgellm.bench.gguf_file import write_gguf
    from edgellm.checkpoint import Checkpoint

    if checkpoint is None:
        raise UsageError(
            "llama.cpp needs the weights in its own format: give --checkpoint DIR or --gguf FILE"
        )
    quant = _GGUF_QUANT[bundle.manifest.quant]
    out = (
        Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgellm-bench-")))
        / f"model-{quant}.gguf"
    )
    write_gguf(Checkpoint.open(Path(checkpoint)), out, quant)
    return str(out)


def _progress(done: int, total: int) -> None:
    import sys

    if sys.stderr.isatty():
        click.echo(f"\rmeasured {done} of {total}", nl=done == total, err=True)


def _print_json(lines: list[Line], compared: list[dict[str, float | str | int]], bandwidth: float) -> None:
    import msgspec

    for line in lines:
        described = msgspec.to_builtins(line)
        described["read_bandwidth_gbps"] = round(bandwidth, 2)
        for ratio in compared:
            if line.engine == ratio["peer"] and (line.batch, line.prompt) == (
                ratio["batch"],
                ratio["prompt"],
            ):
                described["edgellm_prefill_ratio"] = ratio["prefill_ratio"]
                described["edgellm_decode_ratio"] = ratio["decode_ratio"]
        print_json(described)


def _print_table(lines: list[Line], compared: list[dict[str, float | str | int]], bandwidth: float) -> None:
    headings = (
        "engine",
        "batch",
        "prompt",
        "prefill tok/s",
        "decode tok/s",
        "GB/s",
        "TTFT ms",
        "peak MB",
        "×",
    )
    rows = []
    by_case = {(r["peer"], r["batch"], r["prompt"]): r for r in compared}
    for line in lines:
        ratio = by_case.get((line.engine, line.batch, line.prompt))
        rows.append(
            (
                line.engine,
                str(line.batch),
                str(line.prompt),
                f"{line.prefill_tps:.1f}",
                f"{line.decode_tps:.1f}",
                f"{line.gbps:.1f}",
                f"{line.ttft_ms:.0f}",
                f"{line.peak_rss_mb:.0f}",
                f"{ratio['prefill_ratio']:.2f} / {ratio['decode_ratio']:.2f}" if ratio else "",
            )
        )
    print_table(headings, rows)
    click.echo(f"read bandwidth of this machine's memory: {bandwidth:.1f} GB/s")
    if compared:
        click.echo("×: edgellm's speed divided by that engine's, prefill / decode")

#!/usr/bin/env python3
"""Measure edgellm beside llama.cpp and CTranslate2 on this machine's CPU, and keep the result.

    python benchmarks/cpu.py --work DIR [--shape llama-1b] [--rounds 3]    measure
    python benchmarks/cpu.py --table FILE.jsonl                            print README's table of a result
    python benchmarks/cpu.py --readme                                      put the newest result into README

Measuring makes the checkpoint in DIR if it is not there, builds the bundles anew, converts the checkpoint for
the peers once, and writes `benchmarks/results/cpu-DATE.jsonl` and a plot. Only figures of one run on a quiet
machine can be compared. Needs `pip install 'edgellm[cpu,tvm,bench]'`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
from make_checkpoint import SHAPES, make
from table import newest, read, render, update_readme

from edgellm.backends.cpu import compute_threads
from edgellm.bench.cases import Case
from edgellm.bench.compare import Line, Measurement, run_rounds, summarize_all
from edgellm.bench.conversions import Conversions
from edgellm.bench.plot import plot
from edgellm.bench.processes import Worker
from edgellm.bench.weights import read_share
from edgellm.bench.worker import WorkerSpec
from edgellm.checkpoint import Checkpoint
from edgellm.errors import EdgeLLMError

HERE = Path(__file__).resolve().parent
CASES = [Case(1, 64, 32), Case(4, 64, 32), Case(8, 64, 32), Case(1, 256, 8)]
BUNDLES = {
    "edgellm-tvm-int4": ("tvm", "int4"),
    "edgellm-tvm-int8": ("tvm", "int8"),
    "edgellm-ctranslate2-int8": ("ctranslate2", "int8"),
}
PEERS = {"llamacpp-q4_0": "q4_0", "llamacpp-q8_0": "q8_0", "ctranslate2-int8": "int8"}
ENGINES = (*BUNDLES, *PEERS)


def edgellm(*arguments: object) -> Any:
    """Run a command of edgellm with --json and return what it printed."""
    command = [sys.executable, "-m", "edgellm", *map(str, arguments), "--json"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def prepare(engine: str, work: Path, shape: str, threads: int) -> tuple[WorkerSpec, dict[str, Any] | None]:
    """What to load for an engine, and what building it took, where it is a bundle of ours."""
    checkpoint, most = work / shape, max(case.batch for case in CASES)
    if engine in BUNDLES:
        backend, quant = BUNDLES[engine]
        out = work / f"{shape}-{backend}-{quant}"
        say(f"building {out.name}")
        built = edgellm("build", checkpoint, "--backend", backend, "--quant", quant, "--out", out, "--force")
        facts = {"engine": engine, "seconds": round(built["seconds"], 1), "bytes": built["bytes"]}
        return WorkerSpec("edgellm", str(out), threads, most), facts
    conversions = Conversions(str(checkpoint), work / "peers", say)
    if engine.startswith("llamacpp"):
        return WorkerSpec("llamacpp", str(conversions.gguf(PEERS[engine])), threads, most), None
    return WorkerSpec("ctranslate2", str(conversions.ctranslate2(PEERS[engine])), threads, most), None


def about(args: argparse.Namespace, builds: list[dict[str, Any]]) -> dict[str, Any]:
    """What was measured and on which machine."""
    machine = edgellm("doctor")
    packages = {name: version for extra in machine["extras"] for name, version in extra["packages"].items()}
    return {
        "started": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "shape": args.shape,
        "threads": args.threads,
        "rounds": args.rounds,
        "commit": commit(),
        **{key: machine[key] for key in ("edgellm", "python", "platform", "cpu", "memory")},
        "packages": {name: version for name, version in packages.items() if version},
        "isa": machine["forced_isa"] or (machine["isas"] or [None])[0],
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "builds": builds,
    }


def commit() -> str | None:
    """The commit of this checkout, with "+" if files were changed since; None outside of one."""
    git = ["git", "-C", str(HERE), "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"]
    try:
        done = subprocess.run(git, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None


def measure(args: argparse.Namespace) -> tuple[dict[str, Any], list[Line], list[Measurement]]:
    if not (args.work / args.shape / "config.json").exists():
        say(f"making the checkpoint {args.shape}")
        make(args.work / args.shape, SHAPES[args.shape])
    prepared = [prepare(engine, args.work, args.shape, args.threads) for engine in args.engines]
    facts = about(args, [built for _, built in prepared if built])
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(spec)) for spec, _ in prepared]
        measured: list[Measurement] = []
        start = time.perf_counter()
        for one in run_rounds(workers, CASES, args.rounds, args.threads):
            measured.append(one)
            at = f"round {one.round + 1}, batch {one.case.batch}, prompt {one.case.prompt}"
            say(f"{time.perf_counter() - start:6.0f} s  {at}: {one.engine}")
        with Checkpoint.open(args.work / args.shape) as checkpoint:
            share = read_share(checkpoint.config)
        lines = summarize_all(measured, workers, CASES, share)
    bandwidths = [one.bandwidth_gbps for one in measured]
    facts["seconds"] = round(time.perf_counter() - start, 1)
    facts["read_bandwidth_gbps"] = {
        "median": statistics.median(bandwidths), "min": min(bandwidths), "max": max(bandwidths)
    }  # fmt: skip
    return facts, lines, measured


def write(
    out: Path, facts: dict[str, Any], lines: list[Line], measured: list[Measurement]
) -> tuple[Path, Path]:
    """The result as JSON lines: the machine, then each engine and case with its raw samples. And the plot."""
    records: list[Any] = [facts]
    for line in lines:
        samples = [
            {
                "round": one.round,
                **msgspec.to_builtins(one.sample),
                "bandwidth_gbps": one.bandwidth_gbps,
                "others_cores": one.others_cores,
            }
            for one in measured
            if one.engine == line.engine and one.case == Case(line.batch, line.prompt, line.new)
        ]
        records.append({**msgspec.to_builtins(line), "samples": samples})
    out.mkdir(parents=True, exist_ok=True)
    results = out / f"cpu-{facts['started'][:10]}.jsonl"
    beside = results.with_suffix(".partial")
    beside.write_text("".join(json.dumps(record) + "\n" for record in records))
    beside.replace(results)
    picture = results.with_suffix(".png")
    title = f"{facts['shape']}, {facts['threads']} threads, {facts['cpu']['model']}, {facts['started'][:10]}"
    plot(lines, picture, title)
    return results, picture


def names(text: str) -> list[str]:
    """Engines separated by commas."""
    chosen = [name.strip() for name in text.split(",") if name.strip()]
    if not chosen or not set(chosen) <= set(ENGINES):
        raise argparse.ArgumentTypeError(f"choose from {','.join(ENGINES)}")
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--work", type=Path, help="directory of checkpoint, bundles and conversions")
    what.add_argument("--table", type=Path, metavar="FILE", help="print the table of a result")
    what.add_argument("--readme", action="store_true", help="put the newest result into README.md")
    parser.add_argument("--shape", choices=SHAPES, default="llama-1b")
    parser.add_argument("--engines", type=names, default=list(ENGINES), help=f"of {','.join(ENGINES)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=compute_threads())
    parser.add_argument("--out", type=Path, default=HERE / "results")
    args = parser.parse_args()
    if args.table:
        print(render(read(args.table)))
    elif args.readme:
        update_readme(HERE.parent / "README.md", newest(HERE / "results"))
    else:
        try:
            results, picture = write(args.out, *measure(args))
        except EdgeLLMError as error:
            sys.exit(f"error: {error}")
        print(render(read(results)))
        say(f"wrote {results} and {picture}")


if __name__ == "__main__":
    main()

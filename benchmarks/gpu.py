#!/usr/bin/env python3
"""Measure int4 bundles on the GPUs of this machine, and keep the result.

    python benchmarks/gpu.py --work DIR --prepare [--target nvidia-gpu]   write programs; needs TVM, no GPU
    python benchmarks/gpu.py --work DIR [--adapter 0,1] [--rounds 3]      measure; needs wgpu or pyopencl
    python benchmarks/gpu.py --table FILE.jsonl                           print the table of a result

Preparing lowers the shapes and builds the demo model, a few MB to carry to a machine with a GPU and without
TVM. Measuring writes bundles of random weights into DIR (5.1 GB for llama-8b), runs them in processes of
their own, compares the demo model's answers with a reference in numpy, and writes
`benchmarks/results/gpu-DATE.jsonl`. README.md beside this says how to read it.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from cpu import commit, say
from gpu_answers import check_answers
from gpu_table import render
from make_checkpoint import SHAPES
from random_bundle import QUANT, fingerprint, write_bundle, write_programs

from edgellm.adapters import ADAPTER_VARIABLE, Adapter, list_adapters
from edgellm.backends.plan.open import PROGRAM_VARIABLE
from edgellm.bench.cases import Case
from edgellm.bench.compare import Line, Measurement, run_rounds, summarize_all
from edgellm.bench.processes import Worker
from edgellm.bench.worker import WorkerSpec
from edgellm.bundle import Bundle
from edgellm.errors import EdgeLLMError, UsageError

HERE = Path(__file__).resolve().parent
DEMO = HERE.parent / "models" / "demo"
DECODE = (1, 8, 32)
PREFILL = (64, 256, 1024)


def prepare(work: Path, target: str, shapes: list[str]) -> None:
    """Programs of the shapes, and the demo model's bundle, where they are not there yet."""
    folder = work / target
    if not (folder / "demo").exists():
        say(f"building the demo model for {target}")
        command = ["build", str(DEMO), "--target", target, "--quant", QUANT, "--out", str(folder / "demo")]
        subprocess.run([sys.executable, "-m", "edgellm", *command], check=True, stdout=subprocess.DEVNULL)
    for shape in shapes:
        if not (folder / "programs" / shape).exists():
            say(f"lowering {shape} for {target}")
            beside = folder / "programs" / f".{shape}-{os.getpid()}"
            write_programs(SHAPES[shape], target, beside)
            beside.replace(folder / "programs" / shape)


def bundle_of(work: Path, target: str, shape: str) -> Bundle:
    """The bundle of a shape, written if there is none of its programs."""
    programs, out = work / target / "programs" / shape, work / target / "bundles" / shape
    made_from = out.parent / f"{shape}.sha256"
    now = fingerprint(programs)
    if out.exists() and made_from.exists() and made_from.read_text("utf-8") == now:
        return Bundle.open(out)
    say(f"writing {shape} with random weights")
    bundle = write_bundle(SHAPES[shape], shape, programs, Bundle.open(work / target / "demo"), out)
    made_from.write_text(now, "utf-8")
    return bundle


def cases_of(args: argparse.Namespace) -> list[Case]:
    """Decoding batches after short prompts, then single prompts."""
    decode = [Case(batch, 64, args.new) for batch in args.decode]
    return decode + [Case(1, prompt, 4) for prompt in args.prefill]


def adapters_of(args: argparse.Namespace) -> list[Adapter]:
    """Those asked for, or every GPU."""
    found = list_adapters()
    if args.adapter is None:
        chosen = [one for one in found if one.kind != "software"]
    else:
        chosen = [one for one in found if one.number in args.adapter]
    if not chosen:
        there = "; ".join(f"{one.number}: {one}, {one.kind}" for one in found) or "none"
        raise UsageError(f"no GPU to measure; adapters here: {there}. --adapter N takes one of these")
    return chosen


def measure(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Records: of each adapter and program the answers' check, then each shape's cases."""
    there = sorted(
        path.name for path in (args.work / args.target / "demo" / "tvm").iterdir() if path.is_dir()
    )
    for adapter in adapters_of(args):
        programs = [one for one in adapter.runs(there) if one in (args.programs or there)]
        if not programs:
            say(f"{adapter} runs none of {', '.join(args.programs or there)}")
        for program in programs if args.programs else programs[:1]:
            os.environ |= {ADAPTER_VARIABLE: str(adapter.number), PROGRAM_VARIABLE: program}
            say(f"{adapter}: {program}")
            demo = args.work / args.target / "demo"
            yield {"kind": "answers", "adapter": str(adapter), "program": program} | check_answers(
                demo, DEMO, args.answers
            )
            for shape in args.shapes:
                yield from _measure_shape(args, shape)


def _measure_shape(args: argparse.Namespace, shape: str) -> Iterator[dict[str, Any]]:
    bundle, cases = bundle_of(args.work, args.target, shape), cases_of(args)
    longest = max(case.prompt + case.new for case in cases)
    spec = WorkerSpec("edgellm", str(bundle.path), None, max(case.batch for case in cases), longest)
    measured: list[Measurement] = []
    with Worker(spec) as worker:
        for one in run_rounds([worker], cases, args.rounds, 1):
            measured.append(one)
            say(f"  {shape}, round {one.round + 1}: batch {one.case.batch}, prompt {one.case.prompt}")
        lines = summarize_all(measured, [worker], cases, 1.0)
    for line in lines:
        yield {"kind": "speed", "shape": shape, **_described(line, measured)}


def _described(line: Line, measured: list[Measurement]) -> dict[str, Any]:
    """A line and, under `samples`, what each round gave."""
    samples = [
        {"round": one.round, **msgspec.to_builtins(one.sample), "others_cores": one.others_cores}
        for one in measured
        if one.case == Case(line.batch, line.prompt, line.new)
    ]
    return {**msgspec.to_builtins(line), "samples": samples}


def about(args: argparse.Namespace) -> dict[str, Any]:
    """What was measured, when, and on which machine."""
    packages = {}
    for name in ("wgpu", "pyopencl", "numpy"):
        try:
            packages[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "kind": "about",
        "started": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "target": args.target,
        "quant": QUANT,
        "rounds": args.rounds,
        "commit": commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages,
        "adapters": [one.facts() for one in list_adapters()],
    }


def write(out: Path, records: list[dict[str, Any]]) -> Path:
    """The result, one record a line."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"gpu-{records[0]['started'][:10]}.jsonl"
    beside = path.with_suffix(".partial")
    beside.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    beside.replace(path)
    return path


def numbers(text: str) -> list[int]:
    """Whole numbers separated by commas."""
    return [int(part) for part in text.split(",")]


def names(text: str) -> list[str]:
    """Names separated by commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def shapes(text: str) -> list[str]:
    """Shapes separated by commas."""
    if unknown := set(names(text)) - set(SHAPES):
        raise argparse.ArgumentTypeError(f"no shape is called {min(unknown)}; known are {', '.join(SHAPES)}")
    return names(text)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, help="directory of programs and bundles")
    parser.add_argument("--prepare", action="store_true", help="write the programs, and measure nothing")
    parser.add_argument("--table", type=Path, metavar="FILE", help="print the table of a result")
    parser.add_argument("--target", default="nvidia-gpu", help="whose programs to run")
    parser.add_argument("--shapes", "--shape", type=shapes, default=["llama-1b", "llama-8b"])
    parser.add_argument("--adapter", type=numbers, help="numbers of `edgellm doctor`; default: every GPU")
    parser.add_argument("--programs", type=names, help="such as wgsl-fp16; default: each adapter's best")
    parser.add_argument("--decode", type=numbers, default=list(DECODE), help="batches")
    parser.add_argument("--prefill", type=numbers, default=list(PREFILL), help="tokens of single prompts")
    parser.add_argument("--new", type=int, default=64, help="tokens to decode")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--answers", type=int, default=20, help="answers of the demo model to check")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    args = parser.parse_args()
    if args.table:
        print(render([json.loads(line) for line in args.table.read_text("utf-8").splitlines()]))
        return
    if args.work is None:
        parser.error("--work DIR or --table FILE is needed")
    try:
        if args.prepare:
            prepare(args.work, args.target, args.shapes)
            return
        adapters_of(args)
        prepare(args.work, args.target, args.shapes)
        records = [about(args)]
        path = write(args.out, records)
        for record in measure(args):
            records.append(record)
            write(args.out, records)
    except EdgeLLMError as error:
        sys.exit(f"error: {error}")
    print(render(records))
    say(f"wrote {path}")
    if wrong := [one for one in records if one.get("different")]:
        sys.exit(f"error: {wrong[0]['adapter']} gave {wrong[0]['different']} wrong tokens")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Measure edgellm beside CTranslate2 and llama.cpp on this machine's CPU, and keep the result.

    python benchmarks/cpu.py --work DIR [--shape llama-1b] [--rounds 5]

Makes the checkpoint and the bundle in DIR if they are not there, runs `edgellm bench` with peers, and writes
`benchmarks/results/cpu-DATE.jsonl` (what the machine is, then a line per engine and case) and a plot of it.
Only figures of one run on a quiet machine can be compared. Needs `pip install 'edgellm[cpu,bench]'`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
from pathlib import Path

from make_checkpoint import SHAPES, make

RESULTS = Path(__file__).parent / "results"


def edgellm(*arguments: object) -> str:
    """Run a command of edgellm and return what it printed."""
    command = [sys.executable, "-m", "edgellm", *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--shape", choices=SHAPES, default="llama-1b")
    parser.add_argument("--quant", default="int8")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compare", default="ctranslate2,llamacpp")
    args = parser.parse_args()
    checkpoint, bundle = args.work / args.shape, args.work / f"{args.shape}-{args.quant}"
    if not checkpoint.exists():
        make(checkpoint, SHAPES[args.shape])
    if not bundle.exists():
        edgellm("build", checkpoint, "--quant", args.quant, "--out", bundle)
    machine = json.loads(edgellm("doctor", "--json"))
    date = datetime.date.today().isoformat()
    out = RESULTS / f"cpu-{args.quant}-{date}"
    about = {"date": date, "shape": args.shape, "quant": args.quant, "threads": args.threads}
    lines = [
        json.dumps(about | {key: machine[key] for key in ("edgellm", "python", "platform", "cpu", "extras")})
    ]
    for batches, prompt, new in (("1,4,8", 64, 32), ("1", 256, 8)):
        printed = edgellm(
            "bench", bundle, "--batch", batches, "--prompt", prompt, "--new", new, "--threads", args.threads,
            "--rounds", args.rounds, "--compare", args.compare, "--checkpoint", checkpoint, "--json",
            *(("--plot", out.with_suffix(".png")) if prompt == 64 else ()),
        )  # fmt: skip
        lines += printed.splitlines()
        print(printed, end="", flush=True)
    RESULTS.mkdir(exist_ok=True)
    out.with_suffix(".jsonl").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

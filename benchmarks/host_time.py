#!/usr/bin/env python3
"""Measure what a decode step costs the host alone, on both hosts, with the plan of the 22-layer shape.

    python benchmarks/host_time.py [--batch 1,8,32] [--steps 300] [--out DIR]

The plan and its launches are the real ones; the kernels return at once, and weights have a few bytes. So the
device has next to nothing to do, and what remains is the host: packing, encoding, submitting, unpacking.
Needs TVM, and wgpu or pyopencl with any device, software ones too. Keeps the samples in
`benchmarks/results/host-time-DATE.jsonl`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from cpu import HERE, commit, say
from make_checkpoint import SHAPES
from numpy.typing import NDArray
from random_bundle import model_config

from edgellm.adapters import Adapter, list_adapters
from edgellm.backends.executor import ExecutorLimits, StepInput
from edgellm.backends.plan.executor import BLOCK_SIZE, PlanExecutor
from edgellm.backends.plan.open import open_host
from edgellm.compile.plan.codec import decode_plan
from edgellm.compile.plan.limits import DeviceLimits
from edgellm.compile.plan.plan import PLAN_NAME, Language, Plan
from edgellm.errors import EdgeLLMError

CONTEXT = 128
LANGUAGES: dict[str, Language] = {"wgpu": "wgsl", "opencl": "opencl"}


@dataclass(frozen=True)
class Sample:
    """One step, in milliseconds: until all was submitted, waiting for the device, and all but waiting."""

    submit: float
    wait: float
    host: float


class NoWeights:
    """16 bytes of every buffer."""

    def __getitem__(self, name: str) -> NDArray[np.uint8]:
        return np.zeros(16, np.uint8)


def stubbed(text: str, language: str) -> str:
    """A kernel that takes the same arguments and returns at once."""
    if language == "opencl":
        return re.sub(r"\) \{\n.*", ") {\n}\n", text[text.index("__kernel") :], count=1, flags=re.DOTALL)
    # The body stays behind a condition that always holds: arguments that nothing names get no binding.
    head, brace, body = text[text.index("@compute") :].partition(") {\n")
    return text[: text.index("@compute")] + head + brace + "  if (blockIdx.x >= 0u) { return; }\n" + body


def lowered(shape: str, language: Language, folder: Path) -> tuple[Plan, dict[str, str]]:
    """The plan of a shape, its weights reduced to 16 bytes each, and the stubbed sources."""
    from edgellm.compile.gpu.program import write_program

    write_program(model_config(SHAPES[shape]), "int4", language, "fp32", DeviceLimits(), 2048, folder)
    plan = decode_plan((folder / PLAN_NAME).read_bytes(), shape)
    sources = {
        one.source: stubbed((folder / one.source).read_text("utf-8"), language) for one in plan.kernels
    }
    return msgspec.structs.replace(plan, weights=dict.fromkeys(plan.weights, 16)), sources


def opened(plan: Plan, sources: dict[str, str], adapter: Adapter, batch: int) -> PlanExecutor:
    """An executor with room for `batch` sequences."""
    each = CONTEXT // BLOCK_SIZE
    sizes = plan.sizes | {"b": batch, "m": each, "context": CONTEXT, "blocks": batch * each}
    host = open_host(plan, sources, NoWeights(), sizes, adapter)
    [logits] = [one for one in plan.buffers if one.name == "logits"]
    limits = ExecutorLimits(
        int(logits.shape[1]), CONTEXT, batch, 1, BLOCK_SIZE, batch * each, plan.sizes["n"]
    )
    return PlanExecutor(plan, host, limits, sizes, None)


def measure(executor: PlanExecutor, batch: int, steps: int) -> Iterator[Sample]:
    """Decode steps of `batch` sequences, greedy: the largest logits come back, as the engine asks for."""
    each = CONTEXT // BLOCK_SIZE
    count = np.arange(batch + 1, dtype=np.int32)
    tables = np.arange(batch * each, dtype=np.int32).reshape(batch, each)
    for step in range(steps):
        position = 16 + step % (CONTEXT - 16)
        times = executor.decoding
        submit, wait, total = times.submit, times.wait, times.total
        executor.step_top(
            StepInput(
                np.full(batch, 7, np.int32), np.full(batch, position, np.int32), count,
                np.full(batch, position + 1, np.int32), tables[:, : position // BLOCK_SIZE + 1], count[:-1],
            )
        )  # fmt: skip
        waited = times.wait - wait
        yield Sample(1e3 * (times.submit - submit), 1e3 * waited, 1e3 * (times.total - total - waited))


def run(args: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What was measured, and a record for each host and batch."""
    records = []
    with tempfile.TemporaryDirectory(prefix="edgellm-host-time-") as folder:
        programs = {
            through: lowered(args.shape, language, Path(folder) / language)
            for through, language in LANGUAGES.items()
        }
    adapters = [one for one in list_adapters() if args.adapter is None or one.number in args.adapter]
    for through, (plan, sources) in programs.items():
        adapter = next((one for one in adapters if one.through == through), None)
        if adapter is None:
            say(f"{through}: no adapter")
            continue
        executor = opened(plan, sources, adapter, max(args.batch))
        for batch in args.batch:
            samples = list(measure(executor, batch, args.warm_up + args.steps))[args.warm_up :]
            launches = len(next(one for one in plan.routines if batch <= one.most).launches)
            records.append(
                {
                    "through": through,
                    "adapter": str(adapter),
                    "batch": batch,
                    "launches": launches,
                    **{f"{name}_ms": _spread([getattr(one, name) for one in samples])
                       for name in ("submit", "wait", "host")},
                    "samples": [[round(x, 4) for x in (s.submit, s.wait, s.host)] for s in samples],
                }
            )  # fmt: skip
        executor.close()
    about = {
        "started": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "shape": args.shape,
        "steps": args.steps,
        "commit": commit(),
    }
    return about, records


def _spread(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    found = {"median": statistics.median(ordered), "least": ordered[0], "p90": ordered[len(values) * 9 // 10]}
    return {name: round(value, 3) for name, value in found.items()}


def render(records: list[dict[str, Any]]) -> str:
    """A Markdown table, milliseconds."""
    rows = [["host", "batch", "launches", "host ms, median", "best", "90 %", "of it until submitted"]]
    rows.append(["---"] + ["---:"] * (len(rows[0]) - 1))
    for one in records:
        host, submit = one["host_ms"], one["submit_ms"]
        figures = [host["median"], host["least"], host["p90"], submit["median"]]
        rows.append(
            [
                one["through"],
                str(one["batch"]),
                str(one["launches"]),
                *(f"{figure:.2f}" for figure in figures),
            ]
        )
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def numbers(text: str) -> list[int]:
    """Whole numbers separated by commas."""
    return [int(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=SHAPES, default="llama-1b")
    parser.add_argument("--batch", type=numbers, default=[1, 8, 32])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--warm-up", type=int, default=20)
    parser.add_argument(
        "--adapter", type=numbers, help="numbers of `edgellm doctor`; default: each host's first"
    )
    parser.add_argument("--out", type=Path, default=HERE / "results")
    args = parser.parse_args()
    try:
        about, records = run(args)
    except EdgeLLMError as error:
        sys.exit(f"error: {error}")
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / f"host-time-{about['started'][:10]}.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in (about, *records)), "utf-8")
    print(render(records))
    say(f"wrote {path}")


if __name__ == "__main__":
    main()

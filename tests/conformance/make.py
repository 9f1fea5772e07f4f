"""Writes the conformance programs: `python -m tests.conformance.make` from the repository's root.

Each is a folder with weights, one folder for each language, as in a bundle but for PTX, and `steps.json`:

    {"about": …, "tolerance": …, "sizes": {…}, "output": NAME,
     "steps": [{"sizes": {…}, "inputs": {…}, "output": […]}]}

`sizes` are the largest values of those sizes that the host chooses. Numbers of a buffer stand row by row.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from unittest import mock

from edgellm.backends.plan import weights
from edgellm.compile.gpu.export import export
from edgellm.compile.plan.assemble import assemble
from edgellm.compile.plan.codec import encode_plan
from edgellm.compile.plan.plan import PLAN_NAME, Language
from tests.conformance.case import Array, Case
from tests.conformance.programs import CASES

PROGRAMS = Path(__file__).parent / "programs"
LANGUAGES: tuple[Language, ...] = ("wgsl", "opencl", "metal", "cuda")
STEPS_NAME = "steps.json"


def write(case: Case, folder: Path) -> None:
    """Write a program's new folder."""
    folder.mkdir(parents=True)
    with mock.patch.object(weights, "SHARD_BYTES", 600):
        weights.write_weights(folder, case.weights.items())
    for language in LANGUAGES:
        sources = [export(kernel, language) for kernel in case.kernels]
        plan = assemble(
            case.kernels, sources, case.routines, case.buffers, case.sizes,
            language=language, arithmetic=case.arithmetic, rotary=case.rotary,
        )  # fmt: skip
        inside = folder / f"{language}-{case.arithmetic}"
        inside.mkdir()
        (inside / PLAN_NAME).write_bytes(encode_plan(plan))
        for kernel, source in zip(plan.kernels, sources, strict=True):
            (inside / kernel.source).write_text(source.text, encoding="utf-8")
    (folder / STEPS_NAME).write_text(_steps(case), encoding="utf-8")


def write_all(folder: Path) -> None:
    """Write all programs, in place of those that are there."""
    if folder.exists():
        shutil.rmtree(folder)
    for make in CASES:
        case = make()
        write(case, folder / case.name)


def _steps(case: Case) -> str:
    """JSON with one line for each buffer of a step."""
    steps = []
    for step in case.steps:
        inputs = ",\n".join(f"    {json.dumps(name)}: {_numbers(one)}" for name, one in step.inputs.items())
        inputs = f"{{\n{inputs}\n   }}" if inputs else "{}"
        sizes = json.dumps(dict(step.sizes))
        steps.append(
            f'  {{\n   "sizes": {sizes},\n   "inputs": {inputs},\n   "output": {_numbers(step.output)}\n  }}'
        )
    head = {
        "about": case.about, "tolerance": case.tolerance, "sizes": dict(case.chosen), "output": case.output
    }  # fmt: skip
    rows = [f" {json.dumps(name)}: {json.dumps(value)}" for name, value in head.items()]
    rows.append(' "steps": [\n' + ",\n".join(steps) + "\n ]")
    return "{\n" + ",\n".join(rows) + "\n}\n"


def _numbers(values: Array) -> str:
    return json.dumps(values.ravel().tolist())


if __name__ == "__main__":
    write_all(PROGRAMS)

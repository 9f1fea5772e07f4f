"""Runs a conformance program on a host and compares what comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgellm.backends.plan.executor import rotary_table
from edgellm.backends.plan.host import Host
from edgellm.backends.plan.weights import MappedWeights
from edgellm.compile.plan.codec import decode_plan
from edgellm.compile.plan.plan import PLAN_NAME, Plan

PROGRAMS = Path(__file__).parent / "programs"
STEPS_NAME = "steps.json"
Open = Callable[[Plan, Mapping[str, str], MappedWeights, Mapping[str, int]], Host]


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Numbers of each input, row by row, and of the output's beginning."""

    sizes: dict[str, int]
    inputs: dict[str, list[float]]
    output: list[float]


class Steps(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """See `make.py`."""

    about: str
    tolerance: float
    sizes: dict[str, int]
    output: str
    steps: list[Step]


def names() -> list[str]:
    """Of all programs."""
    return sorted(path.name for path in PROGRAMS.iterdir())


def read_steps(name: str) -> Steps:
    """What is to be run, and what comes out."""
    return msgspec.json.decode((PROGRAMS / name / STEPS_NAME).read_bytes(), type=Steps)


def read_plan(name: str, language: str) -> tuple[Plan, dict[str, str]]:
    """A program's plan in one language, and its sources."""
    [folder] = (PROGRAMS / name).glob(f"{language}-*")
    plan = decode_plan((folder / PLAN_NAME).read_bytes(), str(folder / PLAN_NAME))
    return plan, {kernel.source: (folder / kernel.source).read_text() for kernel in plan.kernels}


def run(name: str, language: str, open_host: Open) -> None:
    """Run all steps of a program on a new host.

    Raises:
        AssertionError: an output is not what it should be.
    """
    plan, sources = read_plan(name, language)
    steps = read_steps(name)
    sizes = plan.sizes | steps.sizes
    assert all(sizes.values()), "a size has no largest value"
    host = open_host(plan, sources, MappedWeights(PROGRAMS / name), sizes)
    try:
        for rotary in plan.rotary:
            host.write(rotary.table, rotary_table(rotary, sizes["context"]))
        for index, step in enumerate(steps.steps):
            wanted = {steps.output: len(step.output)}
            got = host.run(_inputs(plan, step), step.sizes, wanted)[steps.output]
            np.testing.assert_allclose(
                got, np.array(step.output, np.float32), rtol=steps.tolerance, atol=steps.tolerance,
                err_msg=f"{name}, step {index}: {steps.about}",
            )  # fmt: skip
    finally:
        host.close()


def _inputs(plan: Plan, step: Step) -> dict[str, Any]:
    dtypes = {buffer.name: buffer.dtype for buffer in plan.buffers}
    return {name: np.array(values, dtypes[name]) for name, values in step.inputs.items()}

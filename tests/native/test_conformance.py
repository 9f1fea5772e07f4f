"""The C host passes the conformance programs through OpenCL."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.conformance.runner import PROGRAMS, names
from tests.conformance.test_hosts import adapter_for


@pytest.fixture
def program(programs: dict[str, Path]) -> Path:
    return programs["conformance"]


def test_conformance(program: Path) -> None:
    adapter = adapter_for("opencl")
    run = subprocess.run(
        [program, adapter.name, *(PROGRAMS / name for name in names())], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    told = dict(line.split(": ", 1) for line in run.stdout.splitlines())
    assert set(told) == {str(PROGRAMS / name) for name in names()}
    refused = {Path(name).name for name, outcome in told.items() if not outcome.startswith("passed")}
    assert refused == (set() if adapter.fp16 else {"half"})


def test_wrong_numbers_fail(program: Path, tmp_path: Path) -> None:
    """The runner compares: a program whose expected output is changed does not pass."""
    adapter = adapter_for("opencl")
    copy = tmp_path / "scale"
    for path in (PROGRAMS / "scale").rglob("*"):
        if path.is_file():
            target = copy / path.relative_to(PROGRAMS / "scale")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    steps = copy / "steps.json"
    steps.write_text(steps.read_text().replace('"output": [', '"output": [12345, ', 1))
    run = subprocess.run([program, adapter.name, copy], capture_output=True, text=True)
    assert run.returncode == 1
    assert "should be 12345" in run.stderr

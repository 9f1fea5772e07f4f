"""The C host passes the conformance programs through OpenCL."""

from __future__ import annotations

import hashlib
import os
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


def test_compiled_kernels_are_kept(program: Path, tmp_path: Path) -> None:
    """In files that are used if they are whole, and made anew if not."""
    adapter = adapter_for("opencl")
    folder = tmp_path / "kernels"
    folder.mkdir()

    def run(name: str, into: Path = folder) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, adapter.name, PROGRAMS / name],
            env=os.environ | {"EDGELLM_KERNELS": str(into)}, capture_output=True, text=True,
        )  # fmt: skip

    def files() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in sorted(folder.iterdir())}

    def whole(path: Path, data: bytes) -> bool:
        """Mark, SHA-256 of the name and of what follows, and that."""
        digits = hashlib.sha256(path.name.encode() + data[80:]).hexdigest()
        return data[:16] == b"edgellm-kernel-1" and data[16:80] == digits.encode()

    assert run("scale").returncode == 0
    [(path, data)] = files().items()
    assert len(path.name) == 64 and path.stat().st_mode & 0o777 == 0o600 and whole(path, data)
    inode = path.stat().st_ino
    assert run("scale").returncode == 0 and path.stat().st_ino == inode
    for damaged in (b"", data[:79], data[:-1], data[:500] + bytes([data[500] ^ 1]) + data[501:], data + b"0"):
        path.write_bytes(damaged)
        assert run("scale").returncode == 0 and whole(path, path.read_bytes())
    # Whole, but nothing that the driver knows.
    digits = hashlib.sha256(path.name.encode() + b"nonsense").hexdigest()
    path.write_bytes(b"edgellm-kernel-1" + digits.encode() + b"nonsense")
    assert run("scale").returncode == 0 and len(path.read_bytes()) > 500
    # What is in the file is what runs: another kernel's, under this one's name, has not the right function.
    assert run("reduce").returncode == 0
    others = [one for one in files() if one != path]
    other = others[0].read_bytes()[80:]
    path.write_bytes(
        b"edgellm-kernel-1" + hashlib.sha256(path.name.encode() + other).hexdigest().encode() + other
    )
    assert run("scale").returncode == 1
    # A folder that cannot be written to, or is not there, costs time only.
    assert run("scale", tmp_path / "none").returncode == 0 and not (tmp_path / "none").exists()
    assert run("scale", path).returncode == 0

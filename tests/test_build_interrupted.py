"""Builds that meet a full disk, Ctrl-C, SIGTERM and kill -9: nothing half-written is ever seen."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import pytest

import edgellm
from edgellm.bundle import verify
from tests.kill_builds import kill_builds
from tests.make_checkpoints import make_checkpoint
from tests.support import require

ROOT = Path(__file__).resolve().parents[1]
KILLS = int(os.environ.get("EDGELLM_TEST_KILLS", "20"))
"""Builds that the test of kill -9 ends; the acceptance run sets 200."""

posix = pytest.mark.skipif(os.name != "posix", reason="signals and limits of POSIX")

FILL_UP = """
# Another program fills the disk during the build: after the first tensors nothing is left.
import errno, pathlib, sys
import edgellm.builder as builder
from edgellm.errors import EdgeLLMError

filler = pathlib.Path(sys.argv[2]).parent / "filler"

def fill(stage, done, total):
    if stage == "convert" and not filler.exists():
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError as error:
                assert error.errno == errno.ENOSPC

try:
    builder.build(sys.argv[1], out=sys.argv[2], force=True, on_progress=fill)
except EdgeLLMError as error:
    print(error)
    sys.exit(1)
"""


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


@cache
def own_disk() -> list[str] | None:
    """A command that runs a shell script where it may mount a file system that nobody else sees.

    Root may do so at once; others, and root in a container, in a user name space where the kernel allows it.
    None if neither works; then the file-size limit is what stops a build in the middle.
    """
    if shutil.which("unshare") is None:
        return None
    for owner in ([], ["--map-root-user"]):
        command = ["unshare", "--mount", *owner, "sh", "-ec"]
        if run(*command, "mount -t tmpfs -o size=1m tmpfs /tmp").returncode == 0:
            return command
    return None


@posix
def test_a_file_larger_than_allowed(checkpoint_dir: Path, tmp_path: Path) -> None:
    """The limit of `ulimit -f` meets every user, root as well, in the middle of writing the weights."""
    old = edgellm.build(checkpoint_dir, backend="ctranslate2", out=tmp_path / "b").path
    before = {file: file.read_bytes() for file in old.rglob("*") if file.is_file()}
    code = (
        "import resource, sys\nfrom edgellm.cli.group import run\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\nsys.exit(run(sys.argv[1:]))"
    )
    for out in (tmp_path / "new" / "b", old):
        done = run(
            sys.executable,
            "-c",
            code,
            "build",
            str(checkpoint_dir),
            "--backend",
            "ctranslate2",
            "-q",
            "fp32",
            "--out",
            str(out),
            "--force",
        )
        assert done.returncode == 1 and done.stdout == "", done
        assert (
            done.stderr.startswith("error: ") and "ulimit -f" in done.stderr and done.stderr.count("\n") == 1
        )
    assert [entry.name for entry in tmp_path.iterdir()] == ["b"]
    assert all(file.read_bytes() == data for file, data in before.items()) and verify(old) == []


@posix
def test_a_full_disk(checkpoint_dir: Path, tmp_path: Path) -> None:
    """A real file system of 4 MB runs full while weights are written; then again with an old bundle there."""
    if (command := own_disk()) is None:
        pytest.skip("no file system can be mounted here; the file-size test above stops builds the same way")
    (tmp_path / "code.py").write_text(FILL_UP)
    disk, python = tmp_path / "disk", sys.executable
    disk.mkdir()
    script = f"""
        export PYTHONPATH="{ROOT}:$PYTHONPATH"
        mount -t tmpfs -o size=4m tmpfs "{disk}"
        {python} "{tmp_path}/code.py" "{checkpoint_dir}" "{disk}/b" && exit 9
        test "$(ls -A "{disk}")" = filler
        rm "{disk}/filler"
        {python} -m edgellm build "{checkpoint_dir}" --out "{disk}/b" --json
        {python} "{tmp_path}/code.py" "{checkpoint_dir}" "{disk}/b" && exit 9
        rm "{disk}/filler"
        test "$(ls -A "{disk}")" = b
        {python} -m edgellm verify "{disk}/b" --json
    """
    done = run(*command, script)
    assert done.returncode == 0, done
    said = done.stdout.splitlines()
    assert len(said) == 4, said
    assert all(line.startswith(f"the disk of {disk} is full") for line in (said[0], said[2]))
    assert said[3] == '{"ok": true, "problems": []}'


@posix
def test_a_disk_too_small_from_the_start(checkpoint_dir: Path, tmp_path: Path) -> None:
    if (command := own_disk()) is None:
        pytest.skip("no file system can be mounted here; test_writer has a disk too small by the numbers")
    disk = tmp_path / "disk"
    disk.mkdir()
    done = run(
        *command,
        f'mount -t tmpfs -o size=64k tmpfs "{disk}"; '
        f'{sys.executable} -m edgellm build "{checkpoint_dir}" --out "{disk}/b" || ls -A "{disk}"',
    )
    assert done.stdout == "" and "needs at least" in done.stderr, done


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_leave_nothing_behind(number: signal.Signals, tmp_path: Path) -> None:
    tally = kill_builds(tmp_path, 10, number, seed=11)
    assert tally.ended >= 1, tally


@posix
@pytest.mark.parametrize("backend", ["ctranslate2", "tvm"])
def test_kill_at_any_moment(backend: str, tmp_path: Path) -> None:
    require(module=backend, reason=f"builds of this backend are killed: pip install 'edgellm[{backend}]'")
    tally = kill_builds(tmp_path, KILLS, signal.SIGKILL, backend, seed=5)
    assert tally.ended >= KILLS // 4, tally


@posix
def test_two_builds_of_one_bundle_one_wins(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "model", hidden_size=256, num_hidden_layers=6)
    command = [
        sys.executable,
        "-m",
        "edgellm",
        "build",
        str(checkpoint),
        "--backend",
        "ctranslate2",
        "--out",
        str(tmp_path / "b"),
        "--json",
    ]
    both = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=120) for process in both]
    assert sorted(process.returncode for process in both) == [0, 1], said
    (loser,) = (errors for _, errors in said if errors)
    assert loser.startswith("error: ") and loser.count("\n") == 1
    assert verify(tmp_path / "b") == []
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["b", "model"]


@posix
def test_a_stopped_build_is_waited_for_not_trampled(tmp_path: Path) -> None:
    """A build that is alive but does nothing (Ctrl-Z) keeps its temporary; the other says who it is."""
    checkpoint = make_checkpoint(tmp_path / "model")
    code = (
        "import sys, time\nimport edgellm.builder as builder\n"
        "def wait(stage, done, total):\n    print('busy', flush=True); sys.stdin.readline()\n"
        "builder.build(sys.argv[1], backend='ctranslate2', out=sys.argv[2], on_progress=wait)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(checkpoint), str(tmp_path / "b")],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as busy:
        assert busy.stdout is not None and busy.stdin is not None
        assert busy.stdout.readline() == b"busy\n"
        busy.send_signal(signal.SIGSTOP)
        other = run(
            *(sys.executable, "-m", "edgellm", "build", str(checkpoint), "--backend", "ctranslate2"),
            *("--out", str(tmp_path / "b")),
        )
        assert other.returncode == 1 and f"process {busy.pid}" in other.stderr
        busy.send_signal(signal.SIGCONT)
        time.sleep(0.05)
        busy.stdin.write(b"\n" * 10_000)
        busy.stdin.close()
        busy.stdout.read()
        assert busy.wait(timeout=60) == 0
    assert verify(tmp_path / "b") == []

"""The frame around the commands: start-up, help, errors, exit statuses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from edgellm import __version__
from edgellm.cli.group import COMMANDS, LazyGroup, cli, one_line
from edgellm.errors import BundleError, UsageError

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("numpy", "tokenizers", "rich", "huggingface_hub", "ctranslate2", "jinja2", "msgspec", "fastapi")


def edgellm(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgellm", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


def test_help_lists_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom edgellm.cli.group import run\n"
        "status = run(['--help'])\n"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "commands = [name for name in sys.modules if name.startswith('edgellm.cli.')]\n"
        "print('heavy:', heavy, sorted(commands)); sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "heavy: [] ['edgellm.cli.group']" in done.stdout
    for name, text in COMMANDS.items():
        assert name in done.stdout and text in done.stdout


def test_help_is_fast() -> None:
    """At most 0.3 s, in the best of five runs: other work on the machine must not decide."""
    edgellm("--help")
    times = []
    for _ in range(5):
        started = time.perf_counter()
        edgellm("--help")
        times.append(time.perf_counter() - started)
    assert min(times) < 0.3, times


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    done = CliRunner().invoke(cli, [name, "--help"])
    assert done.exit_code == 0, done.output
    assert f"Usage: cli {name}" in done.output
    assert "--json" in done.output or name in ("chat", "serve", "package")


def test_version_and_usage_errors() -> None:
    assert edgellm("--version").stdout == f"edgellm, version {__version__}\n"
    for wrong in (["no-such-command"], ["verify"], ["build", "demo", "--surprise"], ["--surprise"]):
        done = edgellm(*wrong)
        assert done.returncode == 2 and "Traceback" not in done.stderr and done.stdout == "", wrong


def group_raising(error: BaseException) -> LazyGroup:
    group = LazyGroup("edgellm", params=list(cli.params), callback=lambda debug: None)

    @click.command()
    def broken() -> None:
        raise error

    group.get_command = lambda ctx, name: broken  # type: ignore[method-assign]
    return group


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (BundleError("the disk\nis full"), 1, "error: the disk is full\n"),
        (UsageError("--context is 0"), 2, "error: --context is 0\n"),
        (PermissionError(13, "Permission denied", "/x/y"), 1, "error: /x/y: Permission denied\n"),
        (MemoryError(), 1, "error: this machine has too little free memory for that\n"),
        (ValueError("odd"), 1, "error: unexpected ValueError: odd (a bug in edgellm; edgellm --debug"),
        (BundleError("name \x1b[31mred"), 1, "error: name �[31mred\n"),
    ],
)
def test_errors_are_one_line(error: Exception, status: int, says: str) -> None:
    done = CliRunner().invoke(group_raising(error), ["broken"])
    assert done.exit_code == status and done.stderr.startswith(says) and done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_debug_raises_the_error_itself() -> None:
    error = BundleError("x")
    assert CliRunner().invoke(group_raising(error), ["--debug", "broken"]).exception is error
    done = edgellm("--debug", "inspect", "/nonexistent")
    assert "Traceback" in done.stderr and "BundleError" in done.stderr and done.returncode == 1
    done = edgellm("inspect", "/nonexistent")
    assert "Traceback" not in done.stderr and done.stderr.startswith("error: ") and done.returncode == 1


def test_one_line() -> None:
    assert one_line("a\n  b\tc\x07") == "a b c�"


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_signals_unwind(number: signal.Signals, status: int) -> None:
    code = (
        "import sys, time, click\nfrom edgellm.cli import group\n"
        "@click.command()\n"
        "def wait():\n"
        "    try:\n        print('ready', flush=True); time.sleep(60)\n"
        "    finally:\n        print('cleaned up', flush=True)\n"
        "group.LazyGroup.get_command = lambda self, ctx, name: wait\n"
        "sys.exit(group.run(['wait']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.read() == "cleaned up\n"
        assert "Traceback" not in process.stderr.read()
        assert process.wait(timeout=30) == status


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_an_interrupt_inside_a_destructor_is_not_lost(name: str, status: int) -> None:
    code = (
        "import signal, sys, time, click\nfrom edgellm.cli import group\n"
        "class Last:\n"
        f"    def __del__(self): signal.raise_signal(signal.{name})\n"
        "@click.command()\n"
        "def wait():\n    Last()\n    time.sleep(60)\n"
        "group.LazyGroup.get_command = lambda self, ctx, name: wait\n"
        "sys.exit(group.run(['wait']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.returncode == status and "Traceback" not in done.stderr, done


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
def test_a_closed_pipe_is_no_error() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "edgellm", "targets", "--json"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""

"""phone.sh and the benchmark, against an adb whose phone is a folder here, with the Linux build."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgellm.package.native_build import PROGRAM_NAME
from tests.native.programs import NATIVE
from tests.native.test_engine import run
from tests.support import require

SCRIPT = NATIVE / "tools" / "phone.sh"
# Notes each call; runs the phone's commands in this system's shell.
ADB = """#!/bin/sh
printf '%s\\n' "$1 $2" >>"$0.calls"
case $1 in
get-state) [ ! -e "$0.off" ] || { echo 'error: no devices/emulators found'; exit 1; }; echo device ;;
shell) shift; PATH="$(dirname "$0")/bin:$PATH" exec sh -c "$*" ;;
push) [ ! -e "$0.full" ] || [ "${2%/.}" = "$2" ] || exit 1; cp -R "$2" "$3" ;;
pull) cp "$2" "$3" ;;
*) exit 2 ;;
esac
"""


class Phone:
    """An adb, and the folder that it takes for a phone's."""

    def __init__(self, folder: Path, program: Path) -> None:
        self.adb, self.place, self.out = folder / "adb", folder / "data" / "edgellm", folder / "out"
        self._program = program
        (folder / "bin").mkdir()
        self._tool(self.adb, ADB)
        self._tool(folder / "bin" / "getprop", '#!/bin/sh\necho "a $1"\n')

    def _tool(self, path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o755)

    def measure(self, bundle: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [SCRIPT, bundle, "--out", self.out, "--program", self._program, *options]
        known = {"ADB": str(self.adb), "PHONE_FOLDER": str(self.place)}
        return subprocess.run(
            command, env=os.environ | known | environment, capture_output=True, text=True, check=False
        )

    def pushes(self) -> int:
        calls = Path(f"{self.adb}.calls")
        return calls.read_text().count("push ") if calls.exists() else 0


@pytest.fixture
def phone(tmp_path: Path, programs: dict[str, Path]) -> Phone:
    return Phone(tmp_path, programs[PROGRAM_NAME])


QUICK = (
    "--device",
    "recording",
    "--prompt-tokens",
    "8,40",
    "--batches",
    "1,3",
    "--max-tokens",
    "3",
    "--repeats",
    "1",
)


def test_a_bundle_is_measured(phone: Phone, demo_gpu: Path) -> None:
    done = phone.measure(demo_gpu, *QUICK)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["batch"], row["prompt_tokens"]) for row in rows] == [(1, 8), (1, 40), (3, 8), (3, 40)]
    assert all(row["prefill_tokens_per_s"] > 0 and row["decode_tokens_per_s"] > 0 for row in rows)
    assert (phone.out / "results.jsonl").read_text() == done.stdout
    assert "ro.product.model: a ro.product.model" in (phone.out / "phone.txt").read_text()
    assert phone.pushes() == 2
    # What is there already is not copied again, but another bundle is.
    assert phone.measure(demo_gpu, *QUICK).returncode == 0 and phone.pushes() == 3
    (phone.place / "model" / "edgellm.json").write_text("{}")
    assert phone.measure(demo_gpu, *QUICK, "--clean").returncode == 0 and phone.pushes() == 5
    assert not phone.place.exists()


def test_what_goes_wrong_is_told(phone: Phone, demo_gpu: Path, tmp_path: Path) -> None:
    def refused(message: str, *options: str, bundle: Path = demo_gpu, **environment: str) -> None:
        done = phone.measure(bundle, *options, **environment)
        assert done.returncode == 1 and message in done.stderr, done.stderr

    refused("is no bundle", bundle=tmp_path)
    refused("characters that are not passed on", "--device", "a;reboot")
    refused("PHONE_FOLDER must be an absolute path", PHONE_FOLDER="edgellm")
    refused("adb is not there", ADB=str(tmp_path / "none"))
    Path(f"{phone.adb}.off").touch()
    refused("adb reaches no phone (error: no devices/emulators found)")
    Path(f"{phone.adb}.off").unlink()
    Path(f"{phone.adb}.full").touch()
    refused("the bundle cannot be copied", *QUICK)
    Path(f"{phone.adb}.full").unlink()
    refused("no OpenCL device is called nothing", "--device", "nothing")
    refused("a list has something else", *QUICK, "--batches", "1,x")


def test_the_program_is_built_if_none_is_given(phone: Phone, demo_gpu: Path, tmp_path: Path) -> None:
    """For Android: it cannot run here, but it is what is copied."""
    require(module="ziglang", reason="compiles native/: pip install 'edgellm[tvm]'")
    command = [SCRIPT, demo_gpu, "--out", tmp_path / "out"]
    known = {"ADB": str(phone.adb), "PHONE_FOLDER": str(phone.place), "PYTHON": sys.executable}
    done = subprocess.run(command, env=os.environ | known, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "failed on the phone" in done.stderr
    copied = phone.place / PROGRAM_NAME
    assert copied.read_bytes()[18:20] == b"\xb7\x00" and b"/system/bin/linker64" in copied.read_bytes()


def test_sizes_that_do_not_fit_are_left_out(programs: dict[str, Path], demo_gpu: Path) -> None:
    options = ("--device", "recording", "--context", "64", "--prompt-tokens", "16,63,64", "--batches", "2")
    done = run(programs[PROGRAM_NAME], Path("bench"), str(demo_gpu), *options, "--max-tokens", "2")
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 1

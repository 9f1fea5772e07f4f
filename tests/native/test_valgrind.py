"""Memcheck finds nothing in the C core: no wrong access, no value that was never set, no memory kept."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from edgellm.package.chat_format import compile_chat_format
from tests.conformance.runner import PROGRAMS
from tests.conformance.test_hosts import adapter_for
from tests.native.test_engine import lines
from tests.support import require

VALGRIND = (
    *("valgrind", "-q", "--error-exitcode=9", "--num-callers=16", "--leak-check=full"),
    *("--show-leak-kinds=all", "--errors-for-leak-kinds=all"),
)
SUPPRESSIONS = Path(__file__).with_name("valgrind.supp")


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    require(program="valgrind", reason="watches the C core's memory: apt-get install valgrind")


def watched(*command: str | Path, given: str = "") -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*VALGRIND, *command], input=given, capture_output=True, text=True, check=False)
    assert done.returncode != 9, done.stderr
    return done


def test_the_engine(programs: dict[str, Path], demo_gpu: Path, tmp_path: Path) -> None:
    """On the recording device: sharing, pre-emption, sampling, stops, cancelling, chats, refusals."""
    engine = programs["edgellm-native"]
    rng = random.Random(3)
    base = [rng.randrange(2000) for _ in range(120)]
    prompts = [[*base[: rng.randrange(1, 120)], rng.randrange(2000), rng.randrange(2000)] for _ in range(8)]
    small = ("--device", "recording", "--context", "256", "--batch", "3", "--max-tokens", "10", "--seed", "4")
    done = watched(engine, demo_gpu, *small, "--ids", given=lines(prompts))
    assert done.returncode == 0 and len(done.stdout.splitlines()) == len(prompts)
    more = (
        "--stop",
        "e",
        "--stop",
        "zzz",
        "--temperature",
        "0.9",
        "--top-k",
        "5",
        "--repetition-penalty",
        "1.2",
    )
    assert (
        watched(engine, demo_gpu, *small, *more, "--cancel", "2", "--prompt", "An é 🙂\n text").returncode
        == 0
    )
    chat = tmp_path / "chat.json"
    chat.write_bytes(compile_chat_format(demo_gpu).encode())
    done = watched(
        engine, "chat", demo_gpu, *small, "--chat", chat, "--system", " Brief.", given="One?\nTwo?\n"
    )
    assert done.returncode == 0 and len(done.stdout.splitlines()) >= 2
    chat.write_bytes(b'{"format": 1, "plain": {"only": [{"put": "content"}]}}')
    assert watched(engine, demo_gpu, *small, "--chat", chat, given="1\n").returncode == 1
    assert watched(engine, demo_gpu, *small, "--context", "20", given=lines(prompts)).returncode == 1
    assert watched(engine, tmp_path, *small).returncode == 1


def test_a_program_through_opencl(programs: dict[str, Path]) -> None:
    """With what PoCL, LLVM and the linker do themselves left out."""
    # Valgrind's processor has fewer instructions, which PoCL puts into the name.
    name = adapter_for("opencl").name.rsplit("-", 1)[-1]
    done = watched(f"--suppressions={SUPPRESSIONS}", programs["conformance"], name, PROGRAMS / "scale")
    assert done.returncode == 0 and "passed" in done.stdout, done.stderr

"""The C core as an AArch64 program gives what it gives on x86-64: tokens, sampling, scheduling, plans."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from edgellm.package.chat_format import compile_template
from tests.native.programs import build_all, zig
from tests.native.test_chat import render as texts_of
from tests.native.test_engine import lines
from tests.native.test_tokenizer import texts
from tests.native.tokenizers_of_families import FAMILIES
from tests.package.templates import KNOWN
from tests.package.test_chat_format import conversations, template_of
from tests.support import require

QEMU = "qemu-aarch64-static"


@pytest.fixture(scope="module")
def pair(programs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[str]]:
    """How to run the programs of both processors: what goes before, then their folder."""
    require(module="ziglang", reason="compiles for AArch64: pip install 'edgellm[tvm]'")
    require(program=QEMU, reason="runs AArch64 programs: apt-get install qemu-user-static")
    folder = tmp_path_factory.mktemp("aarch64")
    build_all(folder, "-O1", "-g0", "-static", command=zig("-target", "aarch64-linux-musl"))
    return [str(programs["tokenize"].parent)], [QEMU, str(folder)]


def output(where: list[str], program: str, *arguments: str, given: bytes = b"") -> bytes:
    *prefix, folder = where
    run = subprocess.run([*prefix, f"{folder}/{program}", *arguments], input=given, capture_output=True)
    assert run.returncode == 0, run.stderr.decode()
    return run.stdout


@pytest.mark.parametrize("family", ["qwen-2, qwen-3", "llama-2, mistral, phi-3"])
def test_tokenizer(pair: tuple[list[str], list[str]], family: str, tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    FAMILIES[family]().save(str(file))
    given = b"".join(b"%d\n" % len(one.encode()) + one.encode() for one in texts(4, 400))
    one, other = (output(where, "tokenize", str(file), given=given) for where in pair)
    assert one == other and one.count(b"\n") == 400


def test_chat(pair: tuple[list[str], list[str]], tmp_path: Path) -> None:
    file = tmp_path / "chat.json"
    for family in ("qwen-3", "llama-3.2"):
        file.write_bytes(compile_template(template_of(KNOWN[family]), "under test").encode())
        given = conversations(KNOWN[family], 40, seed=2)
        one, other = (texts_of([*where[:-1], f"{where[-1]}/chat"], file, given) for where in pair)
        assert one == other and len(one) == 40


def test_engine(pair: tuple[list[str], list[str]], demo_gpu: Path) -> None:
    """A recording device gives logits made from all that it was told, so the smallest difference shows."""
    rng = random.Random(1)
    prompts = lines([[rng.randrange(2000) for _ in range(rng.randrange(1, 200))] for _ in range(9)]).encode()
    for options in (
        ("--temperature", "0"),
        ("--temperature", "0.8", "--top-p", "0.95", "--seed", "7"),
        ("--temperature", "1.2", "--top-k", "50", "--min-p", "0.02", "--seed", "8"),
        ("--temperature", "1", "--top-p", "1", "--repetition-penalty", "1.3", "--seed", "9"),
    ):
        command = (str(demo_gpu), "--device", "recording", "--ids", "--max-tokens", "24", *options)
        command += ("--context", "256", "--batch", "4")
        one, other = (output(where, "edgellm-native", *command, given=prompts) for where in pair)
        assert one == other
        assert len(set(one.splitlines())) == 9

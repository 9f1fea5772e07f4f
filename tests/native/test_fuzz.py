"""What comes from outside never breaks the C core: changed files and texts, under sanitizers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from edgellm.package.chat_format import compile_template
from tests.conformance.runner import PROGRAMS
from tests.native.programs import NATIVE
from tests.native.test_tokenizer import texts
from tests.native.tokenizers_of_families import FAMILIES
from tests.package.templates import KNOWN
from tests.package.test_chat_format import conversations, template_of
from tests.support import require

SECONDS = 2
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-O1", "-g")


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The core's sources compiled once, for all targets."""
    require(program="cc", reason="compiles with sanitizers: apt-get install gcc")
    folder = tmp_path_factory.mktemp("objects")
    sources = [*(NATIVE / "src").glob("*.c"), NATIVE / "fuzz" / "driver.c"]
    include = [f"-I{NATIVE / 'include'}", f"-I{NATIVE / 'src'}"]
    subprocess.run(["cc", "-std=c11", *SANITIZERS, *include, "-c", *sources], cwd=folder, check=True)
    return sorted(folder.glob("*.o"))


def manifests(folder: Path, demo_gpu: Path) -> list[Path]:
    return [demo_gpu / "edgellm.json"]


def plans(folder: Path, demo_gpu: Path) -> list[Path]:
    return sorted(PROGRAMS.glob("*/*/plan.json"))


def tokenizers(folder: Path, demo_gpu: Path) -> list[Path]:
    """Each family's with a few tokens, so that changes meet more than the vocabulary."""
    for index, make in enumerate(FAMILIES.values()):
        data = json.loads(make().to_str())
        model = data["model"]
        model["vocab"] = dict(list(model["vocab"].items())[:60])
        made = [[*merge, "".join(merge)] for merge in model["merges"]]
        known = [row[:2] for row in made if all(one in model["vocab"] for one in row)]
        model["merges"] = known[:20]
        (folder / f"{index}.json").write_text(json.dumps(data))
    return sorted(folder.glob("*.json"))


def prompts(folder: Path, demo_gpu: Path) -> list[Path]:
    for index, text in enumerate(texts(2, 100)):
        (folder / f"{index}.txt").write_bytes(text.encode())
    return sorted(folder.glob("*.txt"))


def chats(folder: Path, demo_gpu: Path) -> list[Path]:
    """Each family's format, with a conversation behind it."""
    for index, known in enumerate(KNOWN.values()):
        format = json.loads(compile_template(template_of(known), "under test").encode())
        messages = [one["content"].encode() for one in conversations(known, 5, seed=index)[-1]]
        # Without line ends, so that more of the changes are in what counts.
        (folder / f"{index}.json").write_bytes(b"\0".join([json.dumps(format).encode(), *messages]))
    return sorted(folder.glob("*.json"))


TARGETS = {"manifest": manifests, "plan": plans, "tokenizer": tokenizers, "prompt": prompts, "chat": chats}


@pytest.mark.parametrize(("target", "files"), TARGETS.items())
def test_fuzz(target: str, files: object, objects: list[Path], demo_gpu: Path, tmp_path: Path) -> None:
    assert callable(files)
    program = tmp_path / "fuzz"
    source = NATIVE / "fuzz" / f"{target}.c"
    include = [f"-I{NATIVE / 'include'}", f"-I{NATIVE / 'src'}"]
    libraries = ["-lm", "-lpthread", "-ldl"]
    command = ["cc", "-std=c11", *SANITIZERS, *include, source, *objects, "-o", program, *libraries]
    subprocess.run(command, check=True)
    seeds = files(tmp_path, demo_gpu)
    assert seeds
    run = subprocess.run([program, str(SECONDS), "1", *seeds], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    assert int(run.stdout) > 500

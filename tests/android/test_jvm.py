"""The app's Java and Kotlin classes and their native library, in a JVM of this machine, through PoCL."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from edgellm import Engine
from edgellm.bundle import Bundle
from edgellm.package.android import listing
from edgellm.package.apk_tools import Tools
from edgellm.package.chat_format import compile_chat_format
from edgellm.package.native_build import LIBRARY_NAME, build_linux_library
from edgellm.resources import data_dir
from tests.android import toolbox
from tests.android.toolbox import HERE, LIBRARY, joined, run
from tests.backends.plan.models import use_program
from tests.engine.test_gpu import assert_same
from tests.package.elf import read_elf

QUESTIONS = 20
LENGTH = 24

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the native library is built for Linux")


@pytest.fixture(scope="module")
def tools() -> Tools:
    return toolbox.tools()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("jvm")


@pytest.fixture(scope="module")
def classes(tools: Tools, folder: Path) -> Path:
    """All Java of library and app is compiled against API 23; what needs no Android runs here."""
    sources = sorted((LIBRARY / "java").rglob("*.java"))
    return toolbox.compile_java(tools, folder / "classes", *sources)


@pytest.fixture(scope="module")
def programs(tools: Tools, folder: Path, classes: Path) -> Path:
    sources = sorted((HERE / "programs").glob("*.java"))
    return toolbox.compile_java(tools, folder / "programs", *sources, classpath=classes)


@pytest.fixture(scope="module")
def library(tools: Tools, folder: Path) -> Path:
    """The sources of the Android library for this machine."""
    sources = sorted((LIBRARY / "cpp").glob("*.c"))
    return build_linux_library(folder / "lib", sources, tools.jni_headers)


@pytest.fixture(scope="module")
def chat(folder: Path, demo_adreno: Path) -> Path:
    file = folder / "chat.json"
    file.write_bytes(compile_chat_format(demo_adreno).encode())
    return file


def java(tools: Tools, library: Path, *arguments: str | Path, given: str = "") -> str:
    """Run a class with checks of the JNI layer; drivers may have signal handlers beside the JVM's."""
    home = Path(tools.javac).resolve().parent.parent
    command = (
        Path(tools.javac).with_name("java"),
        "-ea",
        "-Xcheck:jni",
        f"-Djava.library.path={library.parent}",
    )
    out = run(
        *command,
        *arguments,
        given=given,
        environment=os.environ | {"LD_PRELOAD": str(home / "lib/libjsig.so")},
    )
    assert "WARNING" not in out and "FATAL" not in out, out
    return out


def questions() -> list[str]:
    lines = (data_dir("models") / "demo" / "heldout.jsonl").read_text().splitlines()
    return [json.loads(line)["messages"][0]["content"] for line in lines[:QUESTIONS]]


def test_only_the_interface_is_exported(library: Path) -> None:
    elf = read_elf(library)
    assert library.name == LIBRARY_NAME == elf.soname
    assert {name for name in elf.exported if not name.startswith("ell_")} == {"JNI_OnLoad"}


def test_answers_are_pythons(
    tools: Tools, classes: Path, programs: Path, library: Path, chat: Path, demo_adreno: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """And cancelling, closing and refusals, from several threads: see Answers.java."""
    use_program(monkeypatch, "opencl-fp32")
    with Engine(demo_adreno, max_batch=4) as engine:
        prompts = [engine.encode_messages([{"role": "user", "content": one}]) for one in questions()]
        params = engine.params(temperature=0.0, max_tokens=LENGTH)
        expected = [one.result() for one in engine.submit_many(prompts, params)]
        device = engine.executor.host.adapter.name  # type: ignore[union-attr]
        out = java(
            tools, library, "-cp", joined([classes, programs]), "Answers", demo_adreno, device, chat,
            str(LENGTH),
            given="".join(f"{one}\n" for one in questions()),
        )  # fmt: skip
        answers = [line.removeprefix("answer ").split("|") for line in out.splitlines() if "|" in line]
        assert len(answers) == QUESTIONS
        for prompt, want, (ids, text) in zip(prompts, expected, answers, strict=True):
            got = tuple(int(one) for one in ids.split())
            assert_same(engine.executor, prompt, want.token_ids, got)
            assert want.token_ids != got or text == want.text
    refused = [line for line in out.splitlines() if line.startswith("refused ")]
    said = [
        "vocabulary of 2048",
        "take turns",
        "no-such-bundle-é😀/edgellm.json is missing",
        "has been closed",
    ]
    assert all(words in line for words, line in zip(said, refused, strict=True))
    assert out.splitlines()[-1] == "done"


class FailingServer(ThreadingHTTPServer):
    """Serves a bundle with ranges; the first answer with a large file ends in its middle, and each twentieth
    is an error."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.asked: list[tuple[str, int]] = []


class _Handler(BaseHTTPRequestHandler):
    server: FailingServer

    def do_GET(self) -> None:
        path = self.path.removeprefix("/bundle/")
        found = re.fullmatch("bytes=([0-9]+)-", self.headers.get("Range", ""))
        start = int(found[1]) if found else 0
        first = not [one for one in self.server.asked if one[0] == path]
        self.server.asked.append((path, start))
        if len(self.server.asked) % 20 == 0:
            self.send_error(503)
            return
        data = (self.server.folder / path).read_bytes()[start:]
        self.send_response(206 if found else 200)
        self.send_header("Content-Length", str(len(data)))
        if found:
            self.send_header("Content-Range", f"bytes {start}-{start + len(data) - 1}/{start + len(data)}")
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if first and len(data) > 100_000 else data)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def test_bundles_are_downloaded_compared_and_pushed(
    tools: Tools, classes: Path, programs: Path, library: Path, demo_adreno: Path, tmp_path: Path
) -> None:
    """See Store.java; the server fails as networks do."""
    (tmp_path / "files.txt").write_bytes(listing(Bundle.open(demo_adreno)))
    (tmp_path / "root").mkdir()
    (tmp_path / "root/original").symlink_to(demo_adreno)
    server = FailingServer(demo_adreno)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        out = java(
            *(tools, library, "-cp", joined([classes, programs]), "Store", tmp_path / "files.txt"),
            *(tmp_path / "root", f"http://127.0.0.1:{server.server_address[1]}/bundle"),
        )
    finally:
        server.shutdown()
        server.server_close()
    shard = "tvm/weights-000.bin"
    resumed = {path for path, start in server.asked if start > 1000}
    assert resumed == {"tokenizer.json", shard}  # where the connection ended, and where the user left
    lines = out.splitlines()
    assert [line.split()[0] for line in lines] == ["stored", *["refused"] * 3, "memory", "done"]
    assert "package the app again" in lines[1] and "free; delete something" in lines[2]
    assert f"{shard} is damaged; run push-model.sh again" in lines[3]
    assert "takes 1.2 GB" in lines[4] and "has 8.0 GB, and 4.0 GB free" in lines[4]


def test_flows_of_kotlin(
    tools: Tools, folder: Path, classes: Path, library: Path, chat: Path, demo_adreno: Path
) -> None:
    """The coroutines' API compiles against API 23; its flows answer, end early and fail as they should."""
    api = toolbox.compile_kotlin(
        tools,
        folder / "kotlin",
        *sorted((LIBRARY / "kotlin").rglob("*.kt")),
        *sorted((HERE / "programs").glob("*.kt")),
        classpath=[tools.android_jar, classes],
    )
    lib = toolbox.kotlin()
    path = joined(
        [classes, api, *(lib / f"{name}.jar" for name in ("kotlin-stdlib", "kotlinx-coroutines-core-jvm"))]
    )
    given = "".join(f"{one}\n" for one in questions()[:8])
    out = java(tools, library, "-cp", path, "FlowsKt", demo_adreno, "0", chat, str(LENGTH), given=given)
    lines = out.splitlines()
    assert len([line for line in lines if line.startswith("answer ")]) == 8
    assert "Cairo" in lines[0] and "Copenhagen" in lines[1]
    assert "take turns" in lines[-2] and lines[-1] == "done"

"""Chat formats in C: the texts that Jinja makes, the ids that Python's engine makes of them, stop texts."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from edgellm import Engine
from edgellm.package.chat_format import Message, compile_chat_format, compile_template
from tests.backends.plan.models import use_program
from tests.native.test_engine import ids_of, run
from tests.package.templates import KNOWN
from tests.package.test_chat_format import conversations, template_of

NOW = datetime(2026, 2, 8, 23, 5, tzinfo=UTC)


def render(
    program: Path | list[str], format: Path, given: list[list[Message]], now: datetime = NOW
) -> list[str]:
    """What the C program makes of conversations: the text, or "refused: ..."."""
    text = b""
    for messages in given:
        text += b"%d\n" % len(messages)
        for one in messages:
            content = one["content"].encode("utf-8", "surrogateescape")
            text += f"{one['role']} {len(content)}\n".encode() + content
    command = [*(program if isinstance(program, list) else [program]), format, str(int(now.timestamp()))]
    done = subprocess.run(command, input=text, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    lines = done.stdout.decode().splitlines()
    return [one if one.startswith("refused") else bytes.fromhex(one).decode() for one in lines]


@pytest.mark.parametrize("family", KNOWN)
def test_every_family(programs: dict[str, Path], family: str, tmp_path: Path) -> None:
    known = KNOWN[family]
    template = template_of(known)
    file = tmp_path / "chat.json"
    file.write_bytes(compile_template(template, "under test").encode())
    given = conversations(known, 100, seed=11)
    expected = [template.render(one, strftime=NOW.strftime) for one in given]
    assert render(programs["chat"], file, given) == expected


def test_dates_of_a_year(programs: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "chat.json"
    pattern = "%a %A %b %B %d %m %Y %y %H:%M %% é"
    slot = [{"date": pattern}, {"put": "content"}]
    blocks = dict.fromkeys(("only", "first", "assistant", "middle", "last"), slot)
    file.write_text(json.dumps({"format": 1, "plain": blocks, "system": None}))
    for month in range(1, 13):
        now = datetime(2020 + month, month, 2 * month, month, 5 * month - 1, tzinfo=UTC)
        [text] = render(programs["chat"], file, [[{"role": "user", "content": "!"}]], now)
        assert text == now.strftime(pattern) + "!"


def test_conversations_that_are_refused(programs: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "chat.json"
    file.write_bytes(compile_template(template_of(KNOWN["mistral"]), "under test").encode())
    user, assistant = {"role": "user", "content": "a"}, {"role": "assistant", "content": ""}
    cases: list[tuple[list[Message], str]] = [
        ([], "must end with a message of the user"),
        ([user, assistant], "must end with a message of the user"),
        ([user, user, user], "message 2 has the role user"),
        ([assistant], "message 1 has the role assistant"),
        ([user, assistant, {"role": "system", "content": "a"}], "message 3 has the role system"),
        ([{"role": "tool", "content": "a"}], "message 1 has the role tool"),
        ([{"role": "system", "content": "a"}, user], "takes no system message"),
        ([{"role": "user", "content": " \n\u3000"}], "message 1 is empty"),
        ([user, assistant, {"role": "user", "content": "a\udcff"}], "message 3 is no UTF-8 from byte 1"),
    ]
    for given, message in cases:
        [told] = render(programs["chat"], file, [given])
        assert told.startswith("refused: ") and message in told


def only(block: object) -> Callable[[dict[str, Any]], object]:
    """Put another block into a format."""
    return lambda format: format | {"plain": {**format["plain"], "only": block}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f | {"format": 2}, "format is not 1"),
        (lambda f: f | {"more": 1}, "unknown field more"),
        (lambda f: f | {"drop_system": "always"}, "drop_system"),
        (only([]), "no pieces"),
        (only(["a"] * 65), "more than 64"),
        (only(["a"]), "one place for its message"),
        (only([3]), "neither a text nor an object"),
        (only([{"put": "all"}]), "a piece is not"),
        (only([{"put": "content", "left": "most"}]), "a piece is not"),
        (only([{"put": "content", "after": ""}]), "a mark"),
        (only([{"put": "content"}, {"put": "system"}]), "is none"),
        (lambda f: {"format": 1}, "no field plain"),
        (lambda f: [f], "it is no object"),
    ],
)
def test_files_that_are_refused(
    programs: dict[str, Path], change: Callable[[Any], object], message: str, tmp_path: Path
) -> None:
    file = tmp_path / "chat.json"
    format = json.loads(compile_template(template_of(KNOWN["chatml"]), "under test").encode())
    file.write_text(json.dumps(change(format)))
    done = subprocess.run([programs["chat"], file, "0"], input=b"", capture_output=True, check=False)
    assert done.returncode == 1 and message in done.stderr.decode()


def test_the_demo_model(
    programs: dict[str, Path], demo_gpu: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the library: the ids and the answer are Python's, and the format is found beside the bundle."""
    use_program(monkeypatch, "opencl-fp32")
    program = programs["edgellm-native"]
    place = tmp_path / "app"
    place.mkdir()
    (place / "model").symlink_to(demo_gpu)
    bundle = place / "model"
    question = ("--user", "What is a bundle?", "--assistant", "A folder.", "--user", " And  how?\n<|im_end|>")
    none = run(program, bundle, "--device", "recording", *question)
    assert none.returncode == 1 and "no chat format" in none.stderr
    file = tmp_path / "elsewhere.json"
    file.write_bytes(compile_chat_format(demo_gpu).encode())
    messages = [
        {"role": role[2:], "content": text} for role, text in zip(question[::2], question[1::2], strict=True)
    ]
    common = ("--chat", str(file), "--temperature", "0")
    with Engine(demo_gpu) as engine:
        expected = engine.encode_messages(messages)
        shown = run(program, bundle, "--device", "recording", "--show-prompt", *common, *question)
        assert ids_of(shown) == [tuple(expected)]
        device = ("--device", engine.executor.host.adapter.name)  # type: ignore[union-attr]
        ask = ("--max-tokens", "60", "--user", "What is a bundle?")
        whole = run(program, bundle, *device, *common, *ask).stdout.removesuffix("\n")
        prompt = engine.encode_messages([{"role": "user", "content": "What is a bundle?"}])
        for stop in (
            ["weights"],
            ["target: q", "e", "zzz"],
            ["the fo", "folder"],
            ["a" * 60],
        ):
            options = [part for one in stop for part in ("--stop", one)]
            params = engine.params(temperature=0.0, max_tokens=60, stop=tuple(stop))
            [answer] = engine.submit_many([prompt], params)
            got = run(program, bundle, *device, *common, *ask, *options, "--usage")
            assert got.stdout.removesuffix("\n") == answer.result().text
            assert whole.startswith(answer.result().text)
            assert json.loads(got.stderr)["answer_tokens"] == len(answer.result().token_ids)
    beside = place / "chat.json"
    beside.write_bytes(file.read_bytes())
    for folder, name in ((None, f"{bundle}"), (None, f"{bundle}//"), (place, "model"), (demo_gpu, ".")):
        command = [program, name, "--device", "recording", "--show-prompt", *question]
        found = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if name == ".":  # nothing is beside the bundle itself
            assert "no chat format" in found.stderr
        else:
            assert ids_of(found) == [tuple(expected)]
    beside.write_bytes(b"{}")
    damaged = run(program, bundle, "--device", "recording", "--show-prompt", *question)
    assert damaged.returncode == 1 and "chat.json is no chat format" in damaged.stderr
    missing = run(program, demo_gpu, "--device", "recording", "--chat", str(tmp_path / "no.json"), *question)
    assert missing.returncode == 1 and "no.json cannot be read" in missing.stderr
    long = run(program, demo_gpu, "--device", "recording", "--prompt", "a", "--stop", "b" * 257)
    assert long.returncode == 1 and "stop text 1 has 257 bytes" in long.stderr

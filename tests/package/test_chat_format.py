"""compile_chat_format: the same text as Jinja's for every family, and a refusal for what is not linear."""

from __future__ import annotations

import json
import random
from datetime import datetime
from pathlib import Path

import pytest

from edgellm.errors import EdgeLLMError, TemplateError
from edgellm.package.chat_format import ChatFormat, Message, compile_chat_format, compile_template
from edgellm.text import ChatTemplate
from tests.package.templates import KNOWN, NOT_LINEAR, Known

NOW = datetime(2026, 11, 5, 9, 7)


def template_of(known: Known) -> ChatTemplate:
    return ChatTemplate(known.source, bos_token=known.bos, eos_token=known.eos)


def conversations(known: Known, count: int, seed: int) -> list[list[Message]]:
    """Random ones, of other words than the compiler's own proof has."""
    rng = random.Random(seed)
    words = [
        "who",
        "¿qué?",
        " ",
        "\n",
        "   ",
        "\t\n",
        "<think>",
        "</think>",
        "\n\n",
        "🙂",
        "[INST]",
        known.eos,
        "\u3000",
        "{%",
    ]

    def text(least: int) -> str:
        return (
            "x" * least + "".join(rng.choice(words) for _ in range(rng.randrange(7))) + rng.choice(["", "."])
        )

    made = []
    for _ in range(count):
        turns = 2 * rng.randrange(7) + 1
        one = [{"role": ("user", "assistant")[i % 2], "content": text(1 - i % 2)} for i in range(turns)]
        if known.system and rng.random() < 0.6:
            one.insert(0, {"role": "system", "content": rng.choice(["", "\n", text(0), text(1)])})
        made.append(one)
    return made


@pytest.mark.parametrize("family", KNOWN)
def test_every_family_s_template_becomes_data(family: str) -> None:
    known = KNOWN[family]
    template = template_of(known)
    compiled = compile_template(template, "under test")
    assert (compiled.system is not None) == known.system
    for messages in conversations(known, 60, seed=3):
        assert compiled.render(messages, NOW) == template.render(messages, strftime=NOW.strftime)
    assert json.loads(compiled.encode())["format"] == 1
    assert compiled.encode() == compile_template(template, "under test").encode()


def test_what_is_taken_from_texts() -> None:
    def slots(compiled: ChatFormat, place: str, system: bool = False) -> list[dict[str, str]]:
        blocks = json.loads(compiled.encode())["system" if system else "plain"]
        return [piece for piece in blocks[place] if isinstance(piece, dict)]

    made = {family: compile_template(template_of(known), family) for family, known in KNOWN.items()}
    assert slots(made["qwen-2"], "only") == [{"put": "content"}]
    assert slots(made["gemma-3"], "middle") == [{"put": "content", "left": "space", "right": "space"}]
    assert slots(made["qwen-3"], "assistant") == [
        {"put": "content", "after": "</think>", "after_left": "lines"}
    ]
    assert slots(made["llama-2"], "first", True) == [{"put": "system"}, {"put": "content", "right": "space"}]
    assert slots(made["llama-3.2"], "first")[0] == {"date": "%d %b %Y"}
    assert [one["put"] for one in slots(made["mistral, 3"], "last", True)] == ["system", "content"]
    assert {family for family, one in made.items() if one.drop_system == "empty"} == {"phi-3"}


def test_the_demo_model_s_template(demo_bundle: Path) -> None:
    compiled = compile_chat_format(demo_bundle)
    messages = [{"role": "system", "content": " Brief. "}, {"role": "user", "content": "Hello\n"}]
    assert compiled.render(messages) == (
        "<|bos|><|im_start|>system\nBrief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("name", NOT_LINEAR)
def test_what_is_not_linear_is_refused(name: str) -> None:
    with pytest.raises(EdgeLLMError, match="template of model X cannot be carried to a device"):
        compile_template(ChatTemplate(NOT_LINEAR[name]), "of model X")


def test_conversations_that_no_format_takes() -> None:
    compiled = compile_template(template_of(KNOWN["mistral"]), "mistral")
    user, assistant = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
    for messages in ([], [assistant], [user, user], [user, assistant], [user, assistant, assistant]):
        with pytest.raises(TemplateError, match="take turns"):
            compiled.render(messages)
    with pytest.raises(TemplateError, match="refuses system messages"):
        compiled.render([{"role": "system", "content": "c"}, user])


def test_a_bundle_without_a_template(bundle_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgellm.bundle.bundle.Bundle.chat_template", lambda self: None)
    with pytest.raises(EdgeLLMError, match="has no chat template"):
        compile_chat_format(bundle_dir)

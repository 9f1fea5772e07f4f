"""Opening whole checkpoints: end tokens, sampling defaults, templates, files that contradict others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgellm.checkpoint import Checkpoint
from edgellm.errors import CheckpointError, EdgeLLMError, TemplateError
from edgellm.text import ChatTemplate
from tests.make_checkpoints import FAMILIES, make_checkpoint
from tests.make_tokenizers import CHAT_TEMPLATE, byte_level, metaspace


def edit(path: Path, **keys: Any) -> None:
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({k: v for k, v in (content | keys).items() if v is not ...}), encoding="utf-8")


@pytest.mark.parametrize("generation", [4, 5])
@pytest.mark.parametrize("family", FAMILIES)
def test_all_facts_of_a_checkpoint(family: str, generation: Any, tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "my-model", family, generation=generation)
    (tmp_path / "my-model" / "README.md").write_text("---\nlicense: apache-2.0\nlanguage: en\n---\n# Hi\n")
    with Checkpoint.open(tmp_path / "my-model") as checkpoint:
        assert (checkpoint.name, checkpoint.revision, checkpoint.license) == ("my-model", None, "apache-2.0")
        assert checkpoint.config.family == family
        facts = checkpoint.tokenizer_facts
        assert (facts.eos_ids, facts.bos_id, facts.pad_id, facts.eos_token) == ((2, 3), 1, None, "</s>")
        assert facts.prefix_ids == ((1,) if family in ("gemma3", "phi3", "mistral") else ())
        assert checkpoint.chat_template == CHAT_TEMPLATE
        assert checkpoint.tokenizer_file == tmp_path / "my-model" / "tokenizer.json"
    with Checkpoint.open(tmp_path / "my-model", name="org/name", revision="abc") as checkpoint:
        assert (checkpoint.name, checkpoint.revision) == ("org/name", "abc")


@pytest.mark.parametrize(
    ("generation_eos", "config_eos", "expected"),
    [(None, None, (2,)), (3, None, (2, 3)), ([5, 3], 4, (2, 3, 4, 5)), (None, [4, 4], (2, 4))],
)
def test_end_tokens_are_united(generation_eos: Any, config_eos: Any, expected: Any, tmp_path: Path) -> None:
    make_checkpoint(tmp_path)
    edit(tmp_path / "generation_config.json", eos_token_id=generation_eos)
    edit(tmp_path / "config.json", eos_token_id=config_eos)
    with Checkpoint.open(tmp_path) as checkpoint:
        assert checkpoint.tokenizer_facts.eos_ids == expected


@pytest.mark.parametrize("value", [-1, 384, 1.5, "2", True, [[2]]])
def test_an_impossible_end_token_is_refused(value: Any, tmp_path: Path) -> None:
    make_checkpoint(tmp_path)
    edit(tmp_path / "generation_config.json", eos_token_id=value)
    with pytest.raises(CheckpointError, match=r"generation_config\.json: eos_token_id"):
        Checkpoint.open(tmp_path)


def test_special_tokens_may_be_objects(tmp_path: Path) -> None:
    make_checkpoint(tmp_path)
    edit(tmp_path / "tokenizer_config.json", bos_token={"content": "<s>", "lstrip": False}, pad_token="<unk>")
    with Checkpoint.open(tmp_path) as checkpoint:
        facts = checkpoint.tokenizer_facts
    assert (facts.bos_token, facts.bos_id, facts.pad_id) == ("<s>", 1, 0)


def test_sampling_follows_the_checkpoint(tmp_path: Path) -> None:
    make_checkpoint(tmp_path)
    path = tmp_path / "generation_config.json"

    def sampling() -> Any:
        with Checkpoint.open(tmp_path) as checkpoint:
            return checkpoint.sampling

    assert sampling().temperature == 0  # greedy, as in transformers
    edit(path, temperature=0.7, top_k=20, repetition_penalty=1.1)
    assert (sampling().temperature, sampling().top_k, sampling().repetition_penalty) == (0, 0, 1.1)
    edit(path, do_sample=True, top_p=0.8)
    assert (sampling().temperature, sampling().top_k, sampling().top_p) == (0.7, 20, 0.8)
    edit(path, temperature="hot")
    with pytest.raises(CheckpointError, match=r"generation_config\.json: temperature is 'hot', not a number"):
        sampling()
    path.unlink()
    assert sampling().temperature == 0


def test_a_tokenizer_larger_than_the_vocabulary_is_refused(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, vocab_size=300)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json has 13 tokens beyond .* vocab_size of 300"):
        Checkpoint.open(tmp_path)


def test_the_image_token_of_gemma3_may_lie_beyond(tmp_path: Path) -> None:
    backend = metaspace()
    for family in ("gemma3", "llama"):
        make_checkpoint(tmp_path / family, family, vocab_size=backend.get_vocab_size())
    backend.add_special_tokens(["<image_soft_token>"])
    for family in ("gemma3", "llama"):
        backend.save(str(tmp_path / family / "tokenizer.json"))
    with Checkpoint.open(tmp_path / "gemma3") as checkpoint:
        assert checkpoint.tokenizer_facts.size == checkpoint.config.vocab_size + 1
    with pytest.raises(CheckpointError, match="image_soft_token"):
        Checkpoint.open(tmp_path / "llama")


def test_a_tokenizer_without_any_token_is_refused(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models

    make_checkpoint(tmp_path)
    Tokenizer(models.BPE()).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(CheckpointError, match="has no tokens"):
        Checkpoint.open(tmp_path)


class TestChatTemplates:
    def template(self, directory: Path) -> str | None:
        with Checkpoint.open(directory) as checkpoint:
            return checkpoint.chat_template

    def test_none_for_a_base_model(self, tmp_path: Path) -> None:
        assert self.template(make_checkpoint(tmp_path, chat=False)) is None

    def test_the_file_wins_over_the_config(self, tmp_path: Path) -> None:
        make_checkpoint(tmp_path)
        (tmp_path / "chat_template.jinja").write_text("file{{ messages[0].content }}é", encoding="utf-8")
        assert self.template(tmp_path) == "file{{ messages[0].content }}é"

    def test_the_default_among_named_ones(self, tmp_path: Path) -> None:
        make_checkpoint(tmp_path)
        named = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
        edit(tmp_path / "tokenizer_config.json", chat_template=named)
        assert self.template(tmp_path) == "d"
        edit(tmp_path / "tokenizer_config.json", chat_template=named[:1])
        assert self.template(tmp_path) == "t"

    def test_the_processor_s_file(self, tmp_path: Path) -> None:
        make_checkpoint(tmp_path, chat=False)
        edit(tmp_path / "chat_template.json", chat_template="p")
        assert self.template(tmp_path) == "p"

    @pytest.mark.parametrize(
        "source",
        [
            "{{ ''.__class__.__mro__ }}",
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            "{{ 'a' * 10 ** 10 }}",
            "{% if %}",
            "{{ raise_exception('never') }}",
        ],
    )
    @pytest.mark.parametrize("where", ["chat_template.jinja", "tokenizer_config.json"])
    def test_a_hostile_one_is_refused_with_its_file(self, where: str, source: str, tmp_path: Path) -> None:
        make_checkpoint(tmp_path)
        if where.endswith(".jinja"):
            (tmp_path / where).write_text(source)
        else:
            edit(tmp_path / where, chat_template=source)
        with pytest.raises(TemplateError, match=where.replace(".", r"\.")):
            Checkpoint.open(tmp_path)

    @pytest.mark.parametrize("value", [3, {"a": 1}, [3]])
    def test_one_that_is_no_text(self, value: Any, tmp_path: Path) -> None:
        make_checkpoint(tmp_path)
        edit(tmp_path / "tokenizer_config.json", chat_template=value)
        if value == [3]:
            assert self.template(tmp_path) is None
            return
        with pytest.raises(CheckpointError, match="chat_template is not a text"):
            Checkpoint.open(tmp_path)

    def test_it_renders_with_the_checkpoint_s_tokens(self, tmp_path: Path) -> None:
        with Checkpoint.open(make_checkpoint(tmp_path)) as checkpoint:
            assert checkpoint.chat_template is not None
            template = ChatTemplate(checkpoint.chat_template, bos_token=checkpoint.tokenizer_facts.bos_token)
        assert (
            template.render([{"role": "user", "content": "hi"}])
            == "<s><|turn|>user\nhi<|end|>\n<|turn|>assistant\n"
        )


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    make_checkpoint(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        Checkpoint.open(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"[]", b'{"a": 1, "a": 2}', b'{"a": Infinity}', b"{" * 99_999]
)
@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "generation_config.json"])
def test_a_file_that_is_no_json_is_named(name: str, content: bytes, tmp_path: Path) -> None:
    make_checkpoint(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        Checkpoint.open(tmp_path)


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EdgeLLMError, match="is not a directory"):
        Checkpoint.open(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("---\nlicense: mit\n---\n", "mit"),
        ('---\nlicense: "gemma"\n---\n', "gemma"),
        ("---\nlicense: other\nlicense_name: qwen-research\n---\n", "qwen-research"),
        ("---\nlicense: other\n---\n", "other"),
        ("---\ntags:\n- a\n---\nlicense: mit\n", None),
        ("# Hello\nlicense: mit\n", None),
        ("", None),
    ],
)
def test_the_licence_is_that_of_the_model_card(text: str, expected: str | None, tmp_path: Path) -> None:
    make_checkpoint(tmp_path)
    (tmp_path / "README.md").write_text(text)
    with Checkpoint.open(tmp_path) as checkpoint:
        assert checkpoint.license == expected


def test_byte_level_tokenizers_have_room(tmp_path: Path) -> None:
    assert byte_level().get_vocab_size() <= 384 and metaspace().get_vocab_size() <= 384

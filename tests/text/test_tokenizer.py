"""Tokenizer: the checkpoint's own default tokens, bytes of tokens, damaged files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from edgellm.checkpoint import Checkpoint
from edgellm.errors import EdgeLLMError
from edgellm.text import Tokenizer
from edgellm.text import tokenizer as module
from tests.golden.token_cases import FILE, TEXTS, TOKEN_CASES, write_case
from tests.make_tokenizers import byte_level, metaspace


def open_tokenizer(directory: Path) -> Tokenizer:
    with Checkpoint.open(directory) as checkpoint:
        return Tokenizer.from_file(checkpoint.tokenizer_file, checkpoint.tokenizer_facts)


def of(backend: tokenizers.Tokenizer, directory: Path) -> Tokenizer:
    write_case("byte-level", directory)
    backend.save(str(directory / "tokenizer.json"))
    return open_tokenizer(directory)


@pytest.mark.parametrize("name", TOKEN_CASES)
def test_tokens_are_those_of_the_reference(name: str, tmp_path: Path) -> None:
    tokenizer = open_tokenizer(write_case(name, tmp_path))
    recorded = json.loads(FILE.read_text())[name]
    assert [tokenizer.encode(text, add_special_tokens=True) for text in TEXTS] == recorded


@pytest.mark.parametrize("make", [byte_level, metaspace])
@settings(max_examples=40, deadline=None)
@given(text=st.text(max_size=40))
def test_any_text_tokenizes_as_the_library_does(make, text: str, tmp_path_factory) -> None:
    backend = make(bos=True, eos=True)
    tokenizer = of(backend, tmp_path_factory.mktemp("t"))
    assert tokenizer.encode(text, add_special_tokens=True) == backend.encode(text).ids
    assert (
        tokenizer.encode(text, add_special_tokens=False) == backend.encode(text, add_special_tokens=False).ids
    )


@pytest.mark.parametrize("make", [byte_level, metaspace])
def test_bytes_of_tokens_spell_the_text(make, tmp_path: Path) -> None:
    tokenizer = of(make(), tmp_path)
    text = "the bundle, héllo 😀\n<|turn|>z"
    ids = tokenizer.encode(text, add_special_tokens=False)
    spelled = b"".join(tokenizer.token_bytes(i) for i in ids).decode()
    assert spelled.replace("> ", ">").lstrip(" ") == text  # metaspace puts a space before each segment
    assert tokenizer.decode(ids, skip_special_tokens=False).replace("> ", ">") == text


def test_ids_without_a_token_have_no_text(tmp_path: Path) -> None:
    tokenizer = of(byte_level(), tmp_path)
    assert tokenizer.token(10_000) == ""
    assert tokenizer.token_bytes(10_000) == b""
    assert tokenizer.decode([10_000]) == ""


def test_settings_of_a_training_run_do_not_cut_or_pad(tmp_path: Path) -> None:
    backend = byte_level()
    backend.enable_truncation(3)
    backend.enable_padding(length=9)
    assert len(of(backend, tmp_path).encode("zzzzzzzz", add_special_tokens=True)) == 8


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b'{"model": 3}', b"[" * 100_000])
def test_a_damaged_file_is_a_clear_error(content: bytes, tmp_path: Path) -> None:
    write_case("byte-level", tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(EdgeLLMError, match=r"tokenizer\.json"):
        open_tokenizer(tmp_path)


def test_a_huge_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TOKENIZER_BYTES", 1000)
    with pytest.raises(EdgeLLMError, match="limit of 1,000 bytes"):
        open_tokenizer(write_case("byte-level", tmp_path))

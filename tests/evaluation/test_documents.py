"""Files into documents, documents into tokens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import edgellm
from edgellm.bundle import Bundle
from edgellm.errors import EdgeLLMError, UsageError
from edgellm.evaluation import documents
from edgellm.evaluation.documents import Text, encode, read_texts
from tests.make_checkpoints import make_checkpoint


@pytest.fixture(scope="module")
def no_prefix(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle whose tokenizer puts nothing before a text and that has no chat template."""
    root = tmp_path_factory.mktemp("no-prefix")
    source = make_checkpoint(root / "qwen", "qwen2", chat=False)
    bundle = Bundle.open(edgellm.build(source, out=root / "bundle"))
    assert not bundle.manifest.tokenizer.prefix_ids
    return bundle


def test_a_text_file_is_one_document(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes("\ufeffein Text\r\nmit zwei Zeilen ü\n".encode())
    assert [text.content for text in read_texts(file)] == ["ein Text\r\nmit zwei Zeilen ü\n"]


def test_each_line_of_jsonl_is_a_document(tmp_path: Path) -> None:
    file = tmp_path / "a.JSONL"
    turns = [{"role": "user", "content": "hi"}]
    lines = ['{"text": "one\\ntwo\u2028three"}', "", json.dumps({"messages": turns, "answer": 1}), " \r"]
    file.write_bytes("\n".join(lines).encode())
    assert read_texts(file) == [
        Text("one\ntwo\u2028three", f"{file}, line 1"),
        Text(turns, f"{file}, line 3"),
    ]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('"text"', "JSON object"),
        ('{"prompt": "x"}', '"text" or "messages"'),
        ('{"text": "x", "messages": []}', '"text" or "messages"'),
        ('{"text": 3}', "must be a string"),
        ('{"messages": ["hi"]}', "list of objects"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, says: str) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "fine"}\n' + line + "\n")
    with pytest.raises(UsageError, match="line 2: ") as caught:
        read_texts(file)
    assert says in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"none.txt cannot be read: No such file"):
        read_texts(tmp_path / "none.txt")
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        read_texts(tmp_path)
    file = tmp_path / "a.txt"
    file.write_bytes(b"abc\xff")
    with pytest.raises(UsageError, match=r"not UTF-8 \(byte 3\)"):
        read_texts(file)
    file.write_bytes(b"x" * 101)
    monkeypatch.setattr(documents, "MAX_DOCUMENT_BYTES", 100)
    with pytest.raises(UsageError, match="a document of 101 bytes"):
        read_texts(file)
    monkeypatch.setattr(documents, "MAX_FILE_BYTES", 100)
    with pytest.raises(UsageError, match="larger than"):
        read_texts(file)


def test_a_prefix_of_the_text_is_not_doubled(demo_bundle: Path) -> None:
    bundle = Bundle.open(demo_bundle)
    plain, marked = (encode(bundle, [Text(text, "t")])[0] for text in ("Hello wörld", "<|bos|>Hello wörld"))
    assert plain.prefix == marked.prefix == (0,)
    assert plain.token_ids.tolist() == marked.token_ids.tolist()
    assert plain.bytes == marked.bytes == len("Hello wörld".encode())
    assert plain.scored == len(plain.token_ids)


def test_messages_go_through_the_chat_template(demo_bundle: Path, no_prefix: Bundle) -> None:
    bundle = Bundle.open(demo_bundle)
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]
    rendered = "<|bos|><|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello!<|im_end|>\n"
    (document,) = encode(bundle, [Text(turns, "t")])
    (expected,) = encode(bundle, [Text(rendered, "t")])
    assert document.token_ids.tolist() == expected.token_ids.tolist() and document.bytes == expected.bytes
    with pytest.raises(UsageError, match=r"line 7: .* the bundle has none"):
        encode(no_prefix, [Text(turns, "line 7")])
    with pytest.raises(EdgeLLMError, match="line 8: "):
        encode(bundle, [Text("\ud800", "line 8")])


def test_without_a_prefix_the_first_token_is_only_read(no_prefix: Bundle) -> None:
    (document,) = encode(no_prefix, [Text("hello world ü", "t")])
    first = no_prefix.tokenizer().token_bytes(int(document.token_ids[0]))
    assert document.prefix == () and document.scored == len(document.token_ids) - 1
    assert document.bytes == len("hello world ü".encode()) - len(first)


def test_documents_with_nothing_to_score_are_left_out(demo_bundle: Path, no_prefix: Bundle) -> None:
    bundle = Bundle.open(demo_bundle)
    kept = encode(bundle, [Text("", "a"), Text("<|bos|>", "b"), Text("x", "c")])
    assert [document.scored for document in kept] == [1]
    with pytest.raises(UsageError, match=r"a\.txt has no token to predict"):
        encode(bundle, [Text("", "a.txt")])
    with pytest.raises(UsageError, match="no token to predict"):
        encode(no_prefix, [Text("h", "a.txt")])
    with pytest.raises(UsageError, match="the text has no token to predict"):
        encode(bundle, [])


@pytest.mark.parametrize("prefixed", [True, False])
def test_max_tokens_cuts_tokens_and_bytes_alike(demo_bundle: Path, no_prefix: Bundle, prefixed: bool) -> None:
    bundle = Bundle.open(demo_bundle) if prefixed else no_prefix
    texts = [Text("What is the bundle?", "a"), Text("Hello wörld, hello world!", "b"), Text("more", "c")]
    whole = encode(bundle, texts)
    limit = whole[0].scored + 3
    cut = encode(bundle, texts, max_tokens=limit)
    assert [document.scored for document in cut] == [whole[0].scored, 3]
    tokenizer = bundle.tokenizer()
    scored = cut[1].token_ids[-3:].tolist()
    assert cut[1].bytes == sum(len(tokenizer.token_bytes(id)) for id in scored)
    assert cut[0].bytes == whole[0].bytes

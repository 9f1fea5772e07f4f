"""The manifest as bytes: what a reader must refuse, and the schema."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgellm.bundle.codec import checksum, decode_manifest, encode_manifest
from edgellm.bundle.manifest import MAX_MANIFEST_BYTES, FileEntry
from edgellm.bundle.schema import schema_text
from edgellm.errors import BundleError
from tests.bundle.example import manifest, write_example

ROOT = Path(__file__).resolve().parents[2]
TOKENIZER = FileEntry("tokenizer.json", 1, "0" * 64)


def valid() -> bytes:
    return encode_manifest(manifest(chat_template=None, files=(TOKENIZER,)))


def resealed(**changes: object) -> bytes:
    """A manifest with fields changed and the checksum made right again, as an attacker would."""
    document = json.loads(valid()) | changes
    if "checksum" in document:
        document["checksum"] = document.pop("checksum")
    data = (json.dumps(document, indent=2) + "\n").encode()
    return data[:-68] + checksum(data).encode() + data[-4:] if "checksum" in document else data


def files(*paths: str) -> list[dict[str, object]]:
    return [{"path": path, "bytes": 1, "sha256": "0" * 64} for path in paths]


def refusal(data: bytes) -> str:
    with pytest.raises(BundleError) as caught:
        decode_manifest(data, "edgellm.json")
    message = str(caught.value)
    assert "\n" not in message and "Traceback" not in message
    return message


def test_round_trip_and_last_field() -> None:
    data = valid()
    again = decode_manifest(data, "edgellm.json")
    assert encode_manifest(again) == data
    assert list(json.loads(data))[-1] == "checksum"
    assert decode_manifest(resealed(), "x").target == "x86-64"


def test_checksum_is_what_the_documentation_says() -> None:
    data = valid()
    zeroed = data[:-68] + b"0" * 64 + data[-4:]
    assert json.loads(data)["checksum"] == hashlib.sha256(zeroed).hexdigest()


@given(st.data())
def test_any_changed_byte_is_found(draws: st.DataObject) -> None:
    data = bytearray(valid())
    at = draws.draw(st.integers(0, len(data) - 1))
    data[at] ^= draws.draw(st.integers(1, 255))
    refusal(bytes(data))


@given(st.integers(0, 5000), st.binary(min_size=1, max_size=3))
def test_inserted_and_cut_bytes_are_found(at: int, more: bytes) -> None:
    data = valid()
    at = min(at, len(data))
    refusal(data[:at] + more + data[at:])
    if at < len(data):
        refusal(data[:at])


@pytest.mark.parametrize(
    "path",
    ["../tokenizer.json", "/etc/passwd", "a/../../b", "C:/x", "C:x", "a\\b", "a//b", "a/", "./a", ".hidden",
     "a/.b", "nul", "aux.json", "a\nb", "tokenizer.json\n", "EDGELLM.json", "a.", "ä", "", "x" * 300],
)  # fmt: skip
def test_paths_that_may_not_stand_in_a_manifest(path: str) -> None:
    refusal(resealed(files=sorted(files(path, "tokenizer.json"), key=lambda f: str(f["path"]))))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"files": files("Tokenizer.json", "tokenizer.json")}, "same file"),
        ({"files": files("tokenizer.json", "tokenizer.json")}, "same file"),
        ({"files": files("a", "a/b", "tokenizer.json")}, "folder of"),
        ({"files": files("tokenizer.json", "a")}, "sorted"),
        ({"files": files("a")}, "tokenizer.json"),
        ({"files": []}, "$.files"),
        ({"chat_template": "none.jinja"}, "none.jinja"),
        ({"context": 0}, "$.context"),
        ({"context": "many"}, "$.context"),
        ({"batching": "some"}, "$.batching"),
        ({"sampling": {"top_p": 2.0}}, "$.sampling.top_p"),
        ({"surprise": 1}, "surprise"),
        ({"format": 0}, "$.format"),
        ({"backend": "os; rm"}, "$.backend"),
    ],
)
def test_refusals_name_the_field(changes: dict[str, object], says: str) -> None:
    assert says in refusal(resealed(**changes))


def test_newer_format_says_which_version_is_needed() -> None:
    message = refusal(resealed(format=2, edgellm="3.1.4", brand_new={"field": 1}))
    assert "format 2" in message and "3.1.4" in message and "pip install -U edgellm" in message


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff\xfe", b"{" * 100_000, b"[" * 100_000, b"null"])
def test_garbage(data: bytes) -> None:
    refusal(data)


def test_oversized() -> None:
    assert "larger than" in refusal(b" " * (MAX_MANIFEST_BYTES + 1))


def test_a_manifest_that_could_not_be_read_is_not_written() -> None:
    with pytest.raises(BundleError, match="context"):
        encode_manifest(manifest(context=0, chat_template=None, files=(TOKENIZER,)))


def test_schema_file_is_in_step() -> None:
    written = (ROOT / "docs" / "bundle.schema.json").read_text()
    assert written == schema_text(), "run: python -m edgellm.bundle.schema"


def test_schema_accepts_a_written_manifest_and_refuses_a_wrong_one(tmp_path: Path) -> None:
    schema = json.loads(schema_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    document = json.loads((write_example(tmp_path / "b").path / "edgellm.json").read_bytes())
    assert list(validator.iter_errors(document)) == []
    assert len(document["files"]) == 5
    for wrong in ({"context": -1}, {"files": files("../x")}, {"surprise": 1}, {"checksum": "0"}):
        assert list(validator.iter_errors(document | wrong)), wrong

"""Opening and verifying bundles, whole and damaged."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from edgellm.bundle import Bundle, verify
from edgellm.errors import BundleError
from tests.bundle.example import FILES, write_example


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_example(tmp_path / "tiny")


def opening(path: Path) -> str:
    with pytest.raises(BundleError) as caught:
        Bundle.open(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def problems(bundle: Bundle) -> dict[str, str]:
    return {problem.file: problem.problem for problem in verify(bundle)}


def test_a_whole_bundle(bundle: Bundle) -> None:
    assert verify(bundle.path) == []
    again = Bundle.open(bundle.path, check_hashes=True)
    assert again.manifest == bundle.manifest
    assert [entry.path for entry in again.manifest.files] == sorted(FILES)
    assert again.total_bytes == sum(map(len, FILES.values()))
    assert again.file("ctranslate2/model.bin").read_bytes() == FILES["ctranslate2/model.bin"]
    with pytest.raises(BundleError, match="passwd"):
        again.file("../../etc/passwd")


def test_any_flipped_byte_is_found(bundle: Bundle) -> None:
    rng = random.Random(7)
    for name in ("edgellm.json", *FILES):
        file = bundle.path / name
        data = file.read_bytes()
        for _ in range(40):
            at = rng.randrange(len(data))
            changed = bytearray(data)
            changed[at] ^= 1 << rng.randrange(8)
            file.write_bytes(changed)
            assert name in problems(bundle), f"byte {at} of {name}"
        file.write_bytes(data)
    assert verify(bundle) == []


def test_a_flipped_byte_stops_opening(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once in small files; in large ones, whose hashing takes time, when asked for."""
    file = bundle.path / "ctranslate2" / "model.bin"
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    file.write_bytes(data)
    assert "ctranslate2/model.bin has different contents" in opening(bundle.path)
    monkeypatch.setattr("edgellm.bundle.bundle._HASHED_AT_OPEN", len(data) - 1)
    Bundle.open(bundle.path)
    with pytest.raises(BundleError, match=r"ctranslate2/model.bin has different contents"):
        Bundle.open(bundle.path, check_hashes=True)


def test_missing_resized_and_unlisted_files(bundle: Bundle) -> None:
    (bundle.path / "LICENSE").unlink()
    (bundle.path / "tokenizer.json").write_bytes(b"{}")
    (bundle.path / "notes.txt").write_text("mine")
    (bundle.path / "extra").mkdir()
    (bundle.path / "extra" / "deep").write_text("x")
    found = problems(bundle)
    assert found["LICENSE"] == "is missing"
    assert found["tokenizer.json"] == "has 2 bytes instead of 18"
    assert {"notes.txt", "extra", "extra/deep"} <= set(found)
    assert len(found) == 5
    assert "LICENSE is missing" in opening(bundle.path)


def test_a_resized_file_stops_opening(bundle: Bundle) -> None:
    (bundle.path / "ctranslate2" / "model.bin").write_bytes(b"short")
    assert "model.bin has 5 bytes instead of 10,240" in opening(bundle.path)


def test_symbolic_links_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (bundle.path / "ctranslate2").rename(outside)
    (bundle.path / "ctranslate2").symlink_to(outside)
    assert "symbolic link" in problems(bundle)["ctranslate2/model.bin"]
    assert "symbolic link" in opening(bundle.path)


def test_a_linked_manifest_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    (bundle.path / "edgellm.json").rename(tmp_path / "m.json")
    (bundle.path / "edgellm.json").symlink_to(tmp_path / "m.json")
    assert "symbolic link" in opening(bundle.path)
    assert "symbolic link" in problems(bundle)["edgellm.json"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe_does_not_hang(bundle: Bundle) -> None:
    (bundle.path / "LICENSE").unlink()
    os.mkfifo(bundle.path / "LICENSE")
    assert problems(bundle)["LICENSE"] == "is not a regular file"
    assert "not a regular file" in opening(bundle.path)


def test_what_is_no_bundle(tmp_path: Path) -> None:
    assert "does not exist" in opening(tmp_path / "none")
    assert "has no edgellm.json" in opening(tmp_path)
    (tmp_path / "file").write_text("x")
    assert "is not a directory" in opening(tmp_path / "file")
    (tmp_path / "config.json").write_text("{}")
    assert "edgellm build" in opening(tmp_path)
    assert [p.file for p in verify(tmp_path)] == ["edgellm.json"]


def test_a_damaged_manifest_is_one_problem(bundle: Bundle) -> None:
    (bundle.path / "edgellm.json").write_text('{"format": 1}')
    (only,) = verify(bundle)
    assert only.file == "edgellm.json" and "missing required field" in only.problem

"""Peers get the same model: converted once for each content of a checkpoint, and computing the same."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import edgellm
from edgellm.bench.conversions import Conversions
from edgellm.errors import UnsupportedError
from tests.make_checkpoints import make_checkpoint
from tests.support import require


def test_ctranslate2_gets_what_a_bundle_would_hold(
    checkpoint_dir: Path, bundle_dir: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    made = Conversions(str(checkpoint_dir), tmp_path, said.append).ctranslate2("int8")
    for name in ("model.bin", "vocabulary.json"):
        assert (made / name).read_bytes() == (bundle_dir / "ctranslate2" / name).read_bytes()
    assert len(said) == 1
    stamp = (made / "model.bin").stat().st_mtime_ns
    assert Conversions(str(checkpoint_dir), tmp_path, said.append).ctranslate2("int8") == made
    assert len(said) == 1 and (made / "model.bin").stat().st_mtime_ns == stamp
    assert list(tmp_path.iterdir()) == [made]


def test_other_weights_are_another_conversion(checkpoint_dir: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(checkpoint_dir, other)
    first = Conversions(str(other), tmp_path / "kept").ctranslate2("int8")
    weights = other / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert Conversions(str(other), tmp_path / "kept").ctranslate2("int8") != first


def test_nothing_half_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgellm.backends.ctranslate2 import convert

    checkpoint = make_checkpoint(tmp_path / "checkpoint", "llama")

    def fail(checkpoint: object, plan: object, out: Path, progress: object) -> None:
        (out / "model.bin").write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(convert, "convert", fail)
    with pytest.raises(OSError, match="disk full"):
        Conversions(str(checkpoint), tmp_path / "kept").ctranslate2("int8")
    assert not list((tmp_path / "kept").iterdir())


def test_families_that_the_gguf_writer_does_not_know_are_refused(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint", "gemma3")
    with pytest.raises(UnsupportedError, match="--gguf"):
        Conversions(str(checkpoint), tmp_path / "kept").gguf("q8_0")
    assert not list((tmp_path / "kept").iterdir())


def test_llamacpp_computes_the_same_tokens(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason="llama.cpp is compiled for minutes when it is installed")
    require(module="gguf", reason="it writes llama.cpp's format: pip install 'edgellm[bench]'")
    import llama_cpp

    made = Conversions("demo", tmp_path).gguf("f32")
    bundle = edgellm.build("demo", backend="ctranslate2", quant="fp32", out=tmp_path / "bundle")
    with edgellm.Engine(bundle) as engine:
        prompt = engine.encode_prompt("What is a bundle?")
        params = engine.params(temperature=0.0, max_tokens=24, repetition_penalty=1.0, ignore_eos=True)
        expected = engine.submit(prompt, params).result().token_ids
    model = llama_cpp.Llama(str(made), n_ctx=256, n_threads=2, verbose=False)
    tokens = []
    for token in model.generate(list(prompt), temp=0.0, repeat_penalty=1.0):
        tokens.append(token)
        if len(tokens) == 24:
            break
    assert tuple(tokens) == expected

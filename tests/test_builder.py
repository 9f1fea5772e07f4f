"""Building on real checkpoints: what comes out, and that a build that fails leaves nothing."""

from __future__ import annotations

import functools
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

import edgellm
from edgellm import builder
from edgellm.bundle import Bundle, verify
from edgellm.errors import BundleError, CheckpointError, EdgeLLMError, UnsupportedError, UsageError
from tests.make_adapters import make_adapter
from tests.make_checkpoints import FAMILIES, make_checkpoint, random_tensors, write_safetensors

build = functools.partial(builder.build, backend="ctranslate2")
"""With the backend that builds fastest: what is tested here concerns all."""


def contents(directory: Path) -> dict[str, bytes]:
    return {
        file.relative_to(directory).as_posix(): file.read_bytes()
        for file in directory.rglob("*")
        if file.is_file()
    }


def answer(bundle: Path, tokens: int = 4) -> list[int]:
    """Greedy tokens of the bundle after a fixed prompt."""
    with edgellm.Engine(bundle, threads=1) as engine:
        params = engine.params(max_tokens=tokens, temperature=0, ignore_eos=True)
        return list(engine.submit([1, 17, 42], params).result().token_ids)


def test_what_is_built(checkpoint_dir: Path, tmp_path: Path) -> None:
    stages: dict[str, tuple[int, int]] = {}
    result = build(
        checkpoint_dir,
        "x86-64",
        out=tmp_path / "b",
        on_progress=lambda stage, done, total: stages.update({stage: (done, total)}),
    )
    assert (result.target, result.backend, result.quant, result.family) == (
        "x86-64", "ctranslate2", "int8", "llama",
    )  # fmt: skip
    assert result.path == tmp_path / "b" and "ctranslate2" in result.reason and result.seconds > 0
    assert result.bytes == sum(map(len, contents(result.path).values())) - len(
        (result.path / "edgellm.json").read_bytes()
    )
    assert {"convert", "check"} <= set(stages) and all(done == total for done, total in stages.values())
    manifest = Bundle.open(result).manifest
    config = json.loads((checkpoint_dir / "config.json").read_text())
    assert manifest.context == manifest.model.context_length == config["max_position_embeddings"]
    assert manifest.model.family == "llama" and manifest.batching == "request"
    assert set(manifest.tokenizer.eos_ids) == {2, 3}
    assert manifest.source.name == "tiny-llama" and str(tmp_path) not in str(msgspec.to_builtins(manifest))
    assert (result.path / "tokenizer.json").read_bytes() == (checkpoint_dir / "tokenizer.json").read_bytes()
    assert (result.path / "chat_template.jinja").is_file()
    assert verify(result) == [] and len(answer(result.path)) == 4
    weights = (result.path / "ctranslate2" / "model.bin").stat().st_size
    assert manifest.memory.weight_bytes <= 2 * weights


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_built_and_answers(family: str, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / family, family, generation=5, dtype="BF16")
    result = build(checkpoint, out=tmp_path / "b")
    assert result.family == family and verify(result) == [] and len(answer(result.path)) == 4


def test_the_same_input_gives_the_same_bytes(checkpoint_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(checkpoint_dir, tmp_path / "elsewhere" / checkpoint_dir.name)
    one = build(checkpoint_dir, out=tmp_path / "one")
    two = build(tmp_path / "elsewhere" / checkpoint_dir.name, out=tmp_path / "deep" / "two")
    assert contents(one.path) == contents(two.path)


def test_edgellm_build_is_the_function(checkpoint_dir: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        result = edgellm.build(checkpoint_dir, "native", quant="fp32", out=tmp_path / name)
        assert result.quant == "fp32"


def test_the_default_place(checkpoint_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = build(checkpoint_dir, "arm64", quant="fp32")
    assert result.path == tmp_path / "tiny-llama-arm64-fp32" and result.path.is_dir()
    with pytest.raises(BundleError, match="--force"):
        build(checkpoint_dir, "arm64", quant="fp32")
    assert build(checkpoint_dir, "arm64", quant="fp32", force=True).path == result.path


def test_context(checkpoint_dir: Path, tmp_path: Path) -> None:
    small = Bundle.open(build(checkpoint_dir, context=64, out=tmp_path / "b")).manifest
    assert small.context == 64 and small.model.context_length == 256
    long = make_checkpoint(tmp_path / "long", max_position_embeddings=131_072)
    assert Bundle.open(build(long, out=tmp_path / "c")).manifest.context == 8192
    assert Bundle.open(build(long, context=9000, out=tmp_path / "d")).manifest.context == 9000
    for context, says in ((257, "at most 256"), (8, "at least 16"), (-1, "at least 16")):
        with pytest.raises(UsageError, match=says):
            build(checkpoint_dir, context=context, out=tmp_path / "e")


def test_adapters_are_merged_and_named(checkpoint_dir: Path, tmp_path: Path) -> None:
    config = json.loads((checkpoint_dir / "config.json").read_text())
    shapes = {name: tensor.shape for name, tensor in random_tensors("llama", config, 0).items()}
    folders = [make_adapter(tmp_path / name, shapes, seed=len(name)) for name in ("tone", "facts")]
    plain = build(checkpoint_dir, out=tmp_path / "plain").path
    merged = build(checkpoint_dir, out=tmp_path / "merged", adapters=folders).path
    assert Bundle.open(merged).manifest.source.adapters == ("tone", "facts")
    assert contents(plain)["ctranslate2/model.bin"] != contents(merged)["ctranslate2/model.bin"]
    assert len(answer(merged)) == 4


def test_licence_files_travel_and_nothing_else_does(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "model")
    (tmp_path / "secret").write_text("private")
    (checkpoint / "LICENSE.txt").write_text("free")
    (checkpoint / "Notice").write_text("thanks")
    (checkpoint / "LICENSE").symlink_to(tmp_path / "secret")
    (checkpoint / "modeling_evil.py").write_text("raise SystemExit")
    bundle = build(checkpoint, out=tmp_path / "b").path
    assert (bundle / "LICENSE.txt").read_text() == "free" and (bundle / "Notice").read_text() == "thanks"
    assert not (bundle / "LICENSE").exists() and not (bundle / "modeling_evil.py").exists()
    assert verify(bundle) == []


def test_refusals_come_before_any_work(checkpoint_dir: Path, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "mine.txt").write_text("x")
    nowhere = tmp_path / "no-such-model"  # none of these may even look for the model
    for wrong in (
        {"target": "adreno", "quant": "fp32"}, {"target": "toaster"}, {"quant": "int3"}, {"quant": "q8"},
        {"backend": "cuda"}, {"out": taken}, {"context": 1},
    ):  # fmt: skip
        with pytest.raises(EdgeLLMError) as caught:
            build(nowhere, **({"out": tmp_path / "b"} | wrong))  # type: ignore[arg-type]
        assert "no-such-model" not in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(UnsupportedError, match=r"rope_scaling|rope"):
        odd = make_checkpoint(tmp_path / "odd", rope_scaling={"rope_type": "dynamic", "factor": 2.0})
        build(odd, out=tmp_path / "b")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["odd", "taken"]


def _truncate(directory: Path) -> None:
    file = directory / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def _drop_weights(directory: Path) -> None:
    (directory / "model.safetensors").unlink()


def _nan(directory: Path) -> None:
    config = json.loads((directory / "config.json").read_text())
    tensors = random_tensors("llama", config, 0)
    tensors["model.layers.2.mlp.down_proj.weight"][3, 5] = np.nan
    write_safetensors(directory / "model.safetensors", tensors)


def _wrong_dtype(directory: Path) -> None:
    file = directory / "model.safetensors"
    file.write_bytes(file.read_bytes().replace(b'"dtype": "F32"', b'"dtype": "I32"', 1))


def _absent_shard(directory: Path) -> None:
    make_checkpoint(directory, shards=3)
    (directory / "model.safetensors").unlink()
    (directory / "model-00002-of-00003.safetensors").unlink()


def _config(**changes: object) -> Callable[[Path], None]:
    def change(directory: Path) -> None:
        file = directory / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return change


def _write(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda directory: (directory / name).write_bytes(data) and None


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_truncate, "model.safetensors"),
        (_drop_weights, "safetensors"),
        (_nan, "model.layers.2.mlp.down_proj.weight"),
        (_wrong_dtype, "I32"),
        (_absent_shard, "model-00002-of-00003.safetensors"),
        (_config(vocab_size=100), "vocab"),
        (_config(hidden_size=10**12), "hidden_size"),
        (_config(num_hidden_layers=-1), "num_hidden_layers"),
        (_config(num_hidden_layers=10**9), "num_hidden_layers"),
        (_config(model_type="mamba"), "mamba"),
        (_config(hidden_size="64"), "hidden_size"),
        (_write("config.json", b"{not json"), "config.json"),
        (_write("config.json", b"[" * 100_000), "config.json"),
        (_write("tokenizer.json", b"\x00\x01"), "tokenizer.json"),
        (_write("model.safetensors", b"\xff" * 64), "model.safetensors"),
        (lambda directory: (directory / "config.json").unlink(), "config.json"),
        (lambda directory: (directory / "tokenizer.json").unlink(), "tokenizer.json"),
    ],
)
def test_bad_checkpoints_are_refused_and_leave_nothing(
    damage: Callable[[Path], None], says: str, tmp_path: Path
) -> None:
    checkpoint = make_checkpoint(tmp_path / "model")
    damage(checkpoint)
    old = build(make_checkpoint(tmp_path / "good"), out=tmp_path / "b").path
    before = contents(old)
    for out, force in ((tmp_path / "new" / "b", False), (old, True)):
        with pytest.raises((CheckpointError, UnsupportedError)) as caught:
            build(checkpoint, out=out, force=force)
        assert says in str(caught.value) and "\n" not in str(caught.value)
    assert contents(old) == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["b", "good", "model"]


def test_a_malicious_template_cannot_do_harm(tmp_path: Path) -> None:
    for number, source in enumerate(
        (
            "{{ ''.__class__.__mro__[1].__subclasses__() }}",
            "{% for i in range(10**9) %}{% for j in range(10**9) %}x{% endfor %}{% endfor %}",
        )
    ):
        checkpoint = make_checkpoint(tmp_path / f"model{number}", chat=False)
        (checkpoint / "chat_template.jinja").write_text(source)
        try:
            bundle = build(checkpoint, out=tmp_path / f"b{number}")
        except EdgeLLMError as error:
            assert "template" in str(error)
            assert not (tmp_path / f"b{number}").exists()
            continue
        with edgellm.Engine(bundle, threads=1) as engine, pytest.raises(EdgeLLMError):
            engine.encode_messages([{"role": "user", "content": "hello"}])


def test_one_flipped_byte_of_a_real_bundle(bundle_dir: Path, tmp_path: Path) -> None:
    """Any byte of any file: `verify` names the file, and so does the refusal to open it for chat."""
    bundle = tmp_path / "b"
    shutil.copytree(bundle_dir, bundle)
    names = sorted(contents(bundle))
    rng = random.Random(1)
    for round_ in range(200):
        name = names[round_ % len(names)]
        file = bundle / name
        data = bytearray(file.read_bytes())
        at, bit = rng.randrange(len(data)), 1 << rng.randrange(8)
        data[at] ^= bit
        file.write_bytes(data)
        assert name in [problem.file for problem in verify(bundle)], f"byte {at} of {name}"
        with pytest.raises(BundleError, match=Path(name).name):
            edgellm.Engine(bundle)
        data[at] ^= bit
        file.write_bytes(data)
    assert verify(bundle) == []


def test_a_bundle_with_a_missing_or_cut_file_does_not_open(bundle_dir: Path, tmp_path: Path) -> None:
    for name in sorted(contents(bundle_dir)):
        bundle = tmp_path / name.replace("/", "-")
        shutil.copytree(bundle_dir, bundle)
        data = (bundle / name).read_bytes()
        (bundle / name).write_bytes(data[: len(data) // 2])
        with pytest.raises(BundleError) as caught:
            edgellm.Engine(bundle)
        assert Path(name).name in str(caught.value) and "\n" not in str(caught.value)
        (bundle / name).unlink()
        with pytest.raises(BundleError, match=Path(name).name):
            edgellm.Engine(bundle)


@pytest.mark.parametrize(
    ("target", "backend", "dump", "says"),
    [
        ("x86-64", "ctranslate2", "d", "--dump shows the phases of the TVM backend's compiler"),
        ("webgpu", None, "d", "a bundle for GPUs has its kernels"),
        ("x86-64", "tvm", "afile", "--dump .*afile is no directory that can be written: File exists"),
        ("x86-64", "tvm", "afile/d", "--dump .*d is no directory that can be written: Not a directory"),
    ],
)
def test_a_dump_that_cannot_be_is_refused_before_any_work(
    target: str, backend: str | None, dump: str, says: str, tmp_path: Path
) -> None:
    (tmp_path / "afile").write_text("mine")
    with pytest.raises(UsageError, match=says):
        edgellm.build("demo", target, backend=backend, dump=tmp_path / dump, out=tmp_path / "out")
    assert [file.name for file in tmp_path.iterdir()] == ["afile"]

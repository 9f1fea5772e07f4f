"""Safetensors, whole and damaged; canonical weights of every family."""

from __future__ import annotations

import json
import mmap
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from edgellm.checkpoint import Checkpoint
from edgellm.checkpoint import safetensors_file as module
from edgellm.checkpoint.tensors import INDEX, SINGLE, TensorReader
from edgellm.errors import CheckpointError, UnsupportedError
from tests.make_checkpoints import (
    FAMILIES,
    make_checkpoint,
    random_tensors,
    stored_shapes,
    write_safetensors,
    write_tensors,
)


def file_bytes(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(begin: int = 0, end: int = 16, shape: Any = (4,), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_weight_is_read_under_its_canonical_name(
    family: str, shards: int, dtype: Any, tmp_path: Path
) -> None:
    make_checkpoint(tmp_path, family, dtype=dtype, shards=shards)
    config = json.loads((tmp_path / "config.json").read_text())
    exact = random_tensors(family, config, 0)
    with Checkpoint.open(tmp_path) as checkpoint:
        read = {name: checkpoint.weights.read(name) for name in checkpoint.weights.names()}
        total = checkpoint.weights.total_bytes()
        assert {checkpoint.weights.dtype(name) for name in read} == {dtype}
    assert sum(weight.size for weight in read.values()) == sum(tensor.size for tensor in exact.values())
    assert total == sum(weight.size for weight in read.values()) * (4 if dtype == "F32" else 2)
    assert all(weight.dtype == np.float32 for weight in read.values())
    tolerance = {"F32": 0, "F16": 1e-3, "BF16": 1e-2}[dtype]
    layer = {name.removeprefix("layers.1."): value for name, value in read.items()}
    stored = {name.removeprefix("model.layers.1."): value for name, value in exact.items()}
    pairs = [
        (read["embed.weight"], exact["model.embed_tokens.weight"]),
        (layer["o_proj.weight"], stored["self_attn.o_proj.weight"]),
    ]
    if family == "phi3":
        qkv = np.concatenate([layer[f"{p}_proj.weight"] for p in "qkv"])
        pairs.append((qkv, stored["self_attn.qkv_proj.weight"]))
        pairs.append((layer["up_proj.weight"], stored["mlp.gate_up_proj.weight"][96:]))
    else:
        pairs.append((layer["k_proj.weight"], stored["self_attn.k_proj.weight"]))
        pairs.append((layer["up_proj.weight"], stored["mlp.up_proj.weight"]))
    before_mlp = "pre_feedforward_layernorm" if family == "gemma3" else "post_attention_layernorm"
    pairs.append((layer["pre_mlp_norm.weight"], stored[f"{before_mlp}.weight"]))
    if family == "gemma3":
        pairs.append((layer["post_attention_norm.weight"], stored["post_attention_layernorm.weight"]))
        pairs.append((layer["post_mlp_norm.weight"], stored["post_feedforward_layernorm.weight"]))
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance * 0.1)


@pytest.mark.parametrize("generation", [4, 5])
def test_the_text_model_inside_a_multimodal_checkpoint(generation: Any, tmp_path: Path) -> None:
    alone = make_checkpoint(tmp_path / "a", "gemma3")
    inside = make_checkpoint(tmp_path / "b", "gemma3", multimodal=True, generation=generation)
    with Checkpoint.open(alone) as a, Checkpoint.open(inside) as b:
        assert a.weights.names() == b.weights.names()
        for name in a.weights.names():
            np.testing.assert_array_equal(a.weights.read(name), b.weights.read(name))


def test_the_reference_library_writes_what_is_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = {
        "a": rng.standard_normal((3, 5)).astype(np.float16),
        "b": rng.standard_normal(7).astype(np.float32),
    }
    save_file(values, tmp_path / SINGLE)
    with TensorReader.open(tmp_path) as tensors:
        assert sorted(tensors) == ["a", "b"]
        np.testing.assert_array_equal(tensors.read_float32("a"), values["a"].astype(np.float32))
        np.testing.assert_array_equal(tensors.read_float32("b"), values["b"])
        np.testing.assert_array_equal(
            tensors.read_float32("a", slice(1, 3)), values["a"][1:3].astype(np.float32)
        )


def test_special_bfloat16_values(tmp_path: Path) -> None:
    values = np.array([0.0, -0.0, 1.0, -2.5, 2.0**-130, 3.3e38], np.float32)
    write_safetensors(tmp_path / SINGLE, {"x": values}, "BF16")
    bits = (values.view(np.uint32) >> 16 << 16).view(np.float32)
    with TensorReader.open(tmp_path) as tensors:
        read = tensors.read_float32("x")
    assert read.tobytes() == bits.tobytes()


def resident_bytes() -> int:
    """Memory of this process that is in use, files mapped into it included."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_reading_does_not_keep_the_file_in_memory(tmp_path: Path) -> None:
    megabyte = 1 << 20
    values = {f"t{i}": np.ones((megabyte,), np.float32) for i in range(48)}
    write_safetensors(tmp_path / SINGLE, values, "F16")
    with TensorReader.open(tmp_path) as tensors:
        tensors.read_float32("t0")
        before = resident_bytes()
        for name in tensors:
            assert tensors.read_float32(name)[-1] == 1
        grown = resident_bytes() - before
    assert grown < 24 * megabyte  # of 96 MiB read


DAMAGED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "truncated|empty"),
    "half a length": (b"\x01\x02", "truncated"),
    "a length beyond the file": ((1000).to_bytes(8, "little") + b"{}", "truncated inside its header"),
    "an absurd length": ((1 << 60).to_bytes(8, "little") + b"{}", "no safetensors file"),
    "no JSON": (file_bytes(b"hello"), "not valid JSON"),
    "no object": (file_bytes([1]), "not an object"),
    "a repeated tensor": (file_bytes(b'{"a": 1, "a": 2}'), "appears twice"),
    "deep JSON": (file_bytes(b"[" * 200_000), "not valid JSON"),
    "NaN": (file_bytes(b'{"a": NaN}'), "not a JSON number"),
    "no entry": (file_bytes({"a": 3}), "malformed"),
    "no shape": (file_bytes({"a": {"dtype": "F32", "data_offsets": [0, 4]}}), "malformed"),
    "three offsets": (file_bytes({"a": entry() | {"data_offsets": [0, 1, 2]}}), "malformed"),
    "negative": (file_bytes({"a": entry(-4, 12)}, bytes(16)), "malformed"),
    "backwards": (file_bytes({"a": entry(16, 0)}, bytes(16)), "malformed"),
    "a fraction": (file_bytes({"a": entry(0.0, 16)}, bytes(16)), "malformed"),  # type: ignore[arg-type]
    "a huge shape": (file_bytes({"a": entry(shape=[1 << 50])}, bytes(16)), "malformed"),
    "too many dimensions": (file_bytes({"a": entry(shape=[1] * 9 + [4])}, bytes(16)), "malformed"),
    "shape against bytes": (file_bytes({"a": entry(shape=[5])}, bytes(16)), "not its shape"),
    "truncated data": (file_bytes({"a": entry()}, bytes(15)), "is truncated: "),
    "bytes too many": (file_bytes({"a": entry()}, bytes(17)), "1 bytes that no tensor owns"),
    "a hole": (file_bytes({"a": entry(), "b": entry(20, 36)}, bytes(36)), "hole or overlap"),
    "an overlap": (file_bytes({"a": entry(), "b": entry(8, 24)}, bytes(24)), "hole or overlap"),
    "the same place": (file_bytes({"a": entry(), "b": entry()}, bytes(16)), "hole or overlap"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_named(name: str, tmp_path: Path) -> None:
    content, message = DAMAGED[name]
    (tmp_path / SINGLE).write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        TensorReader.open(tmp_path)
    assert SINGLE in str(caught.value)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_changed_header_never_reads_outside(data: st.DataObject, tmp_path_factory: Any) -> None:
    directory = tmp_path_factory.mktemp("fuzz")
    write_safetensors(directory / SINGLE, {"a": np.ones((3, 2), np.float32), "b": np.ones(4, np.float32)})
    content = bytearray((directory / SINGLE).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 41))] = data.draw(st.integers(0, 255))
    (directory / SINGLE).write_bytes(content[: data.draw(st.integers(1, len(content)))])
    try:
        with TensorReader.open(directory) as tensors:
            for name in tensors:
                tensors.read_float32(name)
    except (CheckpointError, UnsupportedError):
        pass


def test_an_overlong_header_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_HEADER_BYTES", 64)
    write_safetensors(tmp_path / SINGLE, {"a": np.ones(4, np.float32)})
    with pytest.raises(CheckpointError, match="its header would be"):
        TensorReader.open(tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_a_value_that_is_no_number_names_its_tensor(value: float, dtype: Any, tmp_path: Path) -> None:
    weight = np.ones((50, 50), np.float32)
    weight[31, 7] = value
    write_safetensors(tmp_path / SINGLE, {"good": np.ones(3, np.float32), "bad.weight": weight}, dtype)
    with TensorReader.open(tmp_path) as tensors:
        tensors.read_float32("good")
        with pytest.raises(CheckpointError, match=r"tensor bad\.weight holds a"):
            tensors.read_float32("bad.weight")


def test_large_but_finite_values_are_read(tmp_path: Path) -> None:
    write_safetensors(tmp_path / SINGLE, {"x": np.full(10, 3e38, np.float32)})
    with TensorReader.open(tmp_path) as tensors:
        assert tensors.read_float32("x")[0] == np.float32(3e38)


@pytest.mark.parametrize("dtype", ["I8", "F8_E4M3", "F64", "U32", "strange"])
def test_another_dtype_is_refused_before_any_work(dtype: str, tmp_path: Path) -> None:
    make_checkpoint(tmp_path)
    content = (tmp_path / SINGLE).read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["model.layers.2.mlp.up_proj.weight"]["dtype"] = dtype
    (tmp_path / SINGLE).write_bytes(file_bytes(header, content[8 + length :]))
    with pytest.raises(UnsupportedError, match=rf"layers\.2\.mlp\.up_proj\.weight is stored as {dtype}"):
        Checkpoint.open(tmp_path)


def edit_index(directory: Path, change: Any) -> None:
    index = json.loads((directory / INDEX).read_text())
    change(index)
    (directory / INDEX).write_text(json.dumps(index))


SHARD = "model-00002-of-00003.safetensors"
BAD_INDEX: dict[str, tuple[Any, str]] = {
    "an absent shard": (
        lambda i: i["weight_map"].update(x="model-9.safetensors"),
        "model-9.safetensors, which is missing",
    ),
    "a tensor the shard lacks": (lambda i: i["weight_map"].update(x=SHARD), "does not have it"),
    "a path upwards": (lambda i: i["weight_map"].update(x="../secret.safetensors"), "no file beside it"),
    "an absolute path": (lambda i: i["weight_map"].update(x="/etc/x.safetensors"), "no file beside it"),
    "another kind of file": (lambda i: i["weight_map"].update(x="config.json"), "no file beside it"),
    "a number": (lambda i: i["weight_map"].update(x=3), "no file beside it"),
    "no map": (lambda i: i.pop("weight_map"), "no weight_map"),
    "a list": (lambda i: i.update(weight_map=[]), "no weight_map"),
    "a tensor left out": (
        lambda i: i["weight_map"].pop("model.norm.weight"),
        r"model\.norm\.weight is missing",
    ),
}


@pytest.mark.parametrize("name", BAD_INDEX)
def test_a_wrong_index_is_named(name: str, tmp_path: Path) -> None:
    change, message = BAD_INDEX[name]
    make_checkpoint(tmp_path, shards=3)
    edit_index(tmp_path, change)
    with pytest.raises(CheckpointError, match=message):
        Checkpoint.open(tmp_path)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, shards=3)
    (tmp_path / SHARD).unlink()
    with pytest.raises(CheckpointError, match=SHARD):
        Checkpoint.open(tmp_path)


def test_a_truncated_shard_is_named(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, shards=3)
    content = (tmp_path / SHARD).read_bytes()
    (tmp_path / SHARD).write_bytes(content[:-100])
    with pytest.raises(CheckpointError, match=f"{SHARD} is truncated"):
        Checkpoint.open(tmp_path)


def test_no_weights_and_pickled_weights(tmp_path: Path) -> None:
    make_checkpoint(tmp_path)
    (tmp_path / SINGLE).unlink()
    with pytest.raises(CheckpointError, match=r"has no model\.safetensors"):
        Checkpoint.open(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(UnsupportedError, match="never loaded"):
        Checkpoint.open(tmp_path)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_tensor_is_needed_and_its_shape_checked(family: str, tmp_path: Path) -> None:
    make_checkpoint(tmp_path, family)
    config = json.loads((tmp_path / "config.json").read_text())
    tensors = random_tensors(family, config, 0)
    for name in stored_shapes(tmp_path):
        if "layers." in name and "layers.1." not in name:
            continue
        write_tensors(tmp_path, {n: t for n, t in tensors.items() if n != name}, "F32")
        with pytest.raises(CheckpointError, match=rf"tensor {name} is missing"):
            Checkpoint.open(tmp_path)
        write_tensors(tmp_path, tensors | {name: tensors[name][1:]}, "F32")
        with pytest.raises(CheckpointError, match=rf"tensor {name} has shape"):
            Checkpoint.open(tmp_path)


def test_tied_embeddings_as_they_are_stored(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, tie_word_embeddings=True)
    config = json.loads((tmp_path / "config.json").read_text())
    tensors = random_tensors("llama", config, 0)
    embed = tensors["model.embed_tokens.weight"]
    other = embed.copy()
    other[-1, -1] += 1

    def opened(**changes: Any) -> tuple[bool, Any]:
        kept = {name: value for name, value in (tensors | changes).items() if value is not None}
        write_tensors(tmp_path, kept, "F32")
        with Checkpoint.open(tmp_path) as checkpoint:
            np.testing.assert_array_equal(checkpoint.weights.read("embed.weight"), embed)
            head = "lm_head.weight"
            return checkpoint.config.tie_word_embeddings, (
                checkpoint.weights.read(head) if head in checkpoint.weights else None
            )

    assert opened() == (True, None)
    assert opened(**{"lm_head.weight": embed}) == (True, None)
    assert opened(**{"lm_head.weight": embed, "model.embed_tokens.weight": None}) == (True, None)
    is_tied, head = opened(
        **{"lm_head.weight": other}
    )  # as in transformers 5: stored apart, so trained apart
    assert not is_tied
    np.testing.assert_array_equal(head, other)
    with pytest.raises(CheckpointError, match=r"tensor lm_head\.weight has shape"):
        opened(**{"lm_head.weight": other[1:]})


def test_an_output_matrix_that_is_missing_hints_at_the_key(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, "qwen2", tie_word_embeddings=True)
    config = json.loads((tmp_path / "config.json").read_text()) | {"tie_word_embeddings": False}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="may need tie_word_embeddings true"):
        Checkpoint.open(tmp_path)

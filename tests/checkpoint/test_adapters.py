"""LoRA adapters: merged as PEFT merges them, refused by name where they are of another kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgellm.checkpoint import Checkpoint
from edgellm.checkpoint.adapters import CONFIG, WEIGHTS
from edgellm.errors import CheckpointError, UnsupportedError
from tests.golden.lora_cases import FILE, LORA_CASES, digest
from tests.make_adapters import make_adapter
from tests.make_checkpoints import make_checkpoint, stored_shapes, write_safetensors


@pytest.mark.parametrize("case", LORA_CASES)
def test_merged_weights_are_those_of_peft(case: str, tmp_path: Path) -> None:
    model, adapters = LORA_CASES[case].write(tmp_path)
    recorded = np.load(FILE)
    expected = {
        name.removeprefix(f"{case}/"): recorded[name] for name in recorded if name.startswith(f"{case}/")
    }
    changed = set()
    with Checkpoint.open(model) as plain, Checkpoint.open(model, adapters=adapters) as merged:
        assert merged.adapters == tuple(adapter.name for adapter in adapters)
        stored: dict[str, list[np.ndarray]] = {}
        for name in merged.weights.names():
            weight = merged.weights.read(name)
            rows = slice(len(weight) // 3, len(weight) // 2)
            np.testing.assert_allclose(merged.weights.read(name, rows), weight[rows], rtol=1e-5, atol=1e-6)
            stored.setdefault(merged.weights.stored_name(name), []).append(weight)
            if not np.array_equal(weight, plain.weights.read(name)):
                changed.add(merged.weights.stored_name(name))
    # In transformers a tied output matrix has its own name, but is the embedding.
    assert changed == set(expected)
    for name, numbers in expected.items():
        np.testing.assert_allclose(digest(np.concatenate(stored[name])), numbers, rtol=1e-5, atol=1e-5)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "model")


def adapter(model: Path, **settings: Any) -> Path:
    return make_adapter(model.parent / "adapter", stored_shapes(model), **settings)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"peft_type": "IA3"}, "peft_type 'IA3' is not implemented; LORA is"),
    ({"peft_type": None}, "peft_type None"),
    ({"use_dora": True}, "use_dora is set"),
    ({"modules_to_save": ["lm_head"]}, "modules_to_save is set"),
    ({"bias": "all"}, "bias 'all' is not implemented"),
    ({"lora_bias": True}, "lora_bias is set"),
    ({"init_lora_weights": "pissa_niter_4"}, "changes the base weights too"),
    ({"layer_replication": [[0, 2]]}, "layer_replication is set"),
    ({"alora_invocation_tokens": [1]}, "cannot be merged"),
    ({"alpha_pattern": {"(a+)+$": 3}}, "too intricate a pattern"),
    ({"alpha_pattern": {"(": 3}}, "not a regular expression"),
    ({"alpha_pattern": {"q_proj": "big"}}, "not a number"),
    ({"lora_alpha": None}, "lora_alpha is missing"),
    ({"lora_alpha": 1e30}, "allowed is"),
]


@pytest.mark.parametrize(("settings", "message"), REFUSED)
def test_other_kinds_are_refused_by_key(settings: dict[str, Any], message: str, model: Path) -> None:
    with pytest.raises((UnsupportedError, CheckpointError)) as caught:
        Checkpoint.open(model, adapters=[adapter(model, **settings)])
    assert message in str(caught.value) and CONFIG in str(caught.value) and "\n" not in str(caught.value)


def write_weights(directory: Path, tensors: dict[str, tuple[int, ...]]) -> None:
    write_safetensors(
        directory / WEIGHTS,
        {f"base_model.model.{name}": np.ones(shape, np.float32) for name, shape in tensors.items()},
    )


Q = "model.layers.0.self_attn.q_proj"
WRONG: dict[str, tuple[dict[str, tuple[int, ...]], str]] = {
    "nothing": ({}, "no LoRA weights"),
    "only A": ({f"{Q}.lora_A.weight": (4, 64)}, "only one of its matrices"),
    "wrong inputs": (
        {f"{Q}.lora_A.weight": (4, 65), f"{Q}.lora_B.weight": (64, 4)},
        "belongs to another model",
    ),
    "wrong outputs": (
        {f"{Q}.lora_A.weight": (4, 64), f"{Q}.lora_B.weight": (32, 4)},
        "belongs to another model",
    ),
    "two ranks": ({f"{Q}.lora_A.weight": (4, 64), f"{Q}.lora_B.weight": (64, 5)}, "belongs to another model"),
    "one dimension": (
        {f"{Q}.lora_A.weight": (64,), f"{Q}.lora_B.weight": (64, 1)},
        "belongs to another model",
    ),
    "a layer beyond": (
        {
            "model.layers.9.mlp.up_proj.lora_A.weight": (4, 64),
            "model.layers.9.mlp.up_proj.lora_B.weight": (96, 4),
        },
        "has no module model.layers.9.mlp.up_proj",
    ),
    "an unknown module": (
        {"visual.q.lora_A.weight": (4, 64), "visual.q.lora_B.weight": (64, 4)},
        "has no module",
    ),
    "a norm": (
        {"model.norm.lora_A.weight": (4, 64), "model.norm.lora_B.weight": (64, 4)},
        "has no module model.norm",
    ),
    "not LoRA": ({f"{Q}.weight": (64, 64)}, "is not a LoRA matrix"),
    "DoRA's vector": ({f"{Q}.lora_magnitude_vector.weight": (64,)}, "is not a LoRA matrix"),
}


@pytest.mark.parametrize("name", WRONG)
def test_weights_that_do_not_fit_are_named(name: str, model: Path) -> None:
    tensors, message = WRONG[name]
    directory = adapter(model)
    write_weights(directory, tensors)
    with pytest.raises((CheckpointError, UnsupportedError)) as caught:
        Checkpoint.open(model, adapters=[directory])
    assert message in str(caught.value) and WEIGHTS in str(caught.value)


@pytest.mark.parametrize("target", ["embed_tokens", "lm_head"])
def test_a_shared_matrix_cannot_be_adapted_on_one_side(target: str, tmp_path: Path) -> None:
    model = make_checkpoint(tmp_path / "model", tie_word_embeddings=True)
    shapes = stored_shapes(model) | {"lm_head.weight": (384, 64)}
    directory = make_adapter(tmp_path / "adapter", shapes, targets=(target,))
    with pytest.raises(UnsupportedError, match="shares this matrix"):
        Checkpoint.open(model, adapters=[directory])


def test_a_damaged_adapter_is_named_when_it_is_read(model: Path) -> None:
    directory = adapter(model, targets=("self_attn.q_proj",))
    shapes = stored_shapes(directory)
    write_safetensors(
        directory / WEIGHTS, {name: np.full(shape, np.nan, np.float32) for name, shape in shapes.items()}
    )
    with Checkpoint.open(model, adapters=[directory]) as checkpoint:
        checkpoint.weights.read("layers.0.k_proj.weight")
        with pytest.raises(CheckpointError, match="holds a NaN"):
            checkpoint.weights.read("layers.0.q_proj.weight")


def test_a_merge_that_overflows_is_named(model: Path) -> None:
    directory = adapter(model, targets=("self_attn.q_proj",))
    shapes = stored_shapes(directory)
    write_safetensors(
        directory / WEIGHTS, {name: np.full(shape, 3e30, np.float32) for name, shape in shapes.items()}
    )
    message = r"adapter adapter makes layers\.0\.q_proj\.weight infinite"
    with (
        Checkpoint.open(model, adapters=[directory]) as checkpoint,
        np.errstate(over="ignore"),
        pytest.raises(CheckpointError, match=message),
    ):
        checkpoint.weights.read("layers.0.q_proj.weight")


def test_missing_files(model: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a directory"):
        Checkpoint.open(model, adapters=[model / "nowhere"])
    directory = adapter(model)
    (directory / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match=WEIGHTS):
        Checkpoint.open(model, adapters=[directory])
    (directory / "adapter_model.bin").write_bytes(b"pickle")
    with pytest.raises(UnsupportedError, match="never loaded"):
        Checkpoint.open(model, adapters=[directory])
    (directory / CONFIG).unlink()
    with pytest.raises(CheckpointError, match=f"{CONFIG} is missing"):
        Checkpoint.open(model, adapters=[directory])


def test_names_with_an_adapter_s_name_inside(model: Path) -> None:
    directory = adapter(model, targets=("self_attn.q_proj",))
    with Checkpoint.open(model, adapters=[directory]) as checkpoint:
        expected = checkpoint.weights.read("layers.0.q_proj.weight")
    content = (directory / WEIGHTS).read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    renamed = {
        name.replace("lora_A.weight", "lora_A.default.weight"): entry for name, entry in header.items()
    }
    text = json.dumps(renamed).encode()
    (directory / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
    with Checkpoint.open(model, adapters=[directory]) as checkpoint:
        np.testing.assert_array_equal(checkpoint.weights.read("layers.0.q_proj.weight"), expected)

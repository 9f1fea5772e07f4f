"""Whatever stands in the JSON files of a checkpoint, the only errors are clear ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgellm.checkpoint import Checkpoint
from edgellm.checkpoint.config import parse_config
from edgellm.errors import EdgeLLMError
from tests.make_adapters import make_adapter
from tests.make_checkpoints import FAMILIES, make_checkpoint, stored_shapes

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(
        ["linear", "llama3", "yarn", "longrope", "dynamic", "default", "full_attention", 2.0, 64]
    ),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "rope_type",
                    "type",
                    "factor",
                    "rope_theta",
                    "full_attention",
                    "sliding_attention",
                    "content",
                    "x",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=6,
)
SLOW = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def keys_of(raw: dict[str, Any]) -> list[str]:
    return [
        *raw,
        "rope_scaling",
        "rope_parameters",
        "layer_types",
        "text_config",
        "auto_map",
        "head_dim",
        "odd",
    ]


@pytest.mark.parametrize("family", FAMILIES)
@SLOW
@given(data=st.data())
def test_config(family: str, data: st.DataObject, tmp_path: Path) -> None:
    make_checkpoint(tmp_path, family)
    raw = json.loads((tmp_path / "config.json").read_text())
    changed = raw | data.draw(st.dictionaries(st.sampled_from(keys_of(raw)), VALUES, max_size=4))
    try:
        parse_config(json.loads(json.dumps(changed)))
    except EdgeLLMError as error:
        assert "\n" not in str(error) and len(str(error)) < 400


@pytest.mark.parametrize("name", ["tokenizer_config.json", "generation_config.json"])
@SLOW
@given(data=st.data())
def test_other_files(name: str, data: st.DataObject, tmp_path: Path) -> None:
    make_checkpoint(tmp_path)
    raw = json.loads((tmp_path / name).read_text())
    keys = [*raw, "pad_token", "do_sample", "temperature", "top_k", "top_p", "min_p", "repetition_penalty"]
    changed = raw | data.draw(st.dictionaries(st.sampled_from(keys), VALUES, max_size=4))
    (tmp_path / name).write_text(json.dumps(changed))
    try:
        Checkpoint.open(tmp_path).close()
    except EdgeLLMError as error:
        assert len(str(error)) < 700


@SLOW
@given(data=st.data())
def test_adapter_config(data: st.DataObject, tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "model")
    adapter = make_adapter(tmp_path / "adapter", stored_shapes(tmp_path / "model"))
    raw = json.loads((adapter / "adapter_config.json").read_text())
    keys = [*raw, "use_rslora", "alpha_pattern", "use_dora"]
    changed = raw | data.draw(st.dictionaries(st.sampled_from(keys), VALUES, max_size=3))
    (adapter / "adapter_config.json").write_text(json.dumps(changed))
    try:
        with Checkpoint.open(tmp_path / "model", adapters=[adapter]) as checkpoint:
            checkpoint.weights.read("layers.0.q_proj.weight")
    except EdgeLLMError as error:
        assert len(str(error)) < 700

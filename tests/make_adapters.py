"""Small random LoRA adapters in PEFT's format, from numpy alone: same arguments, same bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.make_checkpoints import Dtype, write_safetensors

TARGETS = ("self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj")


def make_adapter(
    directory: Path,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    targets: Sequence[str] = TARGETS,
    seed: int = 0,
    rank: int = 4,
    ranks: Mapping[str, int] | None = None,
    dtype: Dtype = "F32",
    **config: Any,
) -> Path:
    """Write an adapter for the linear modules of a checkpoint whose names end in one of `targets`.

    Args:
        shapes: the checkpoint's stored tensors, name to shape.
        ranks: target -> its rank, where it is not `rank` (written as `rank_pattern`).
        config: further keys of adapter_config.json.
    """
    directory.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in shapes.items():
        module = name.removesuffix(".weight")
        target = next((t for t in targets if module.endswith(t)), None)
        if target is None or len(shape) != 2:
            continue
        r = (ranks or {}).get(target, rank)
        outputs, inputs = shape
        a, b = "lora_A.weight", "lora_B.weight"
        if module.endswith("embed_tokens"):
            outputs, inputs, a, b = inputs, outputs, "lora_embedding_A", "lora_embedding_B"
        stem = f"base_model.model.{module}."
        tensors[stem + a] = rng.standard_normal((r, inputs), dtype=np.float32) * np.float32(0.1)
        tensors[stem + b] = rng.standard_normal((outputs, r), dtype=np.float32) * np.float32(0.1)
    write_safetensors(directory / "adapter_model.safetensors", tensors, dtype)
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "tiny",
        "r": rank,
        "lora_alpha": 8,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "modules_to_save": None,
        "target_modules": [t.rsplit(".", 1)[-1] for t in targets],
        "rank_pattern": dict(ranks or {}),
        **config,
    }
    (directory / "adapter_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
    return directory

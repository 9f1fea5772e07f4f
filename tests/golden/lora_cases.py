"""The adapters whose merge is recorded from PEFT (`record_lora.py`) and compared in tests/checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.make_adapters import make_adapter
from tests.make_checkpoints import make_checkpoint, stored_shapes

FILE = Path(__file__).parent / "lora.npz"


@dataclass(frozen=True)
class LoraCase:
    """A checkpoint and the adapters merged into it, in order."""

    family: str
    adapters: tuple[dict[str, Any], ...]
    checkpoint: dict[str, Any] = field(default_factory=dict)

    def write(self, directory: Path) -> tuple[Path, list[Path]]:
        """The checkpoint's directory and those of its adapters."""
        model = make_checkpoint(directory / "model", self.family, **self.checkpoint)
        shapes = stored_shapes(model)
        return model, [
            make_adapter(directory / f"adapter{i}", shapes, seed=10 + i, **settings)
            for i, settings in enumerate(self.adapters)
        ]


LORA_CASES = {
    "llama-plain": LoraCase("llama", ({},)),
    "llama-rslora": LoraCase("llama", ({"use_rslora": True, "lora_alpha": 3},)),
    "llama-patterns": LoraCase(
        "llama",
        (
            {
                "ranks": {"mlp.down_proj": 2},
                "alpha_pattern": {"layers.1.self_attn.q_proj": 20, ".*down_proj": 1.5, "v_pro": 99},
            },
        ),
    ),
    "llama-ends": LoraCase("llama", ({"targets": ("embed_tokens", "lm_head", "mlp.up_proj")},)),
    "phi3-fused": LoraCase("phi3", ({"targets": ("self_attn.qkv_proj", "mlp.gate_up_proj")},)),
    "qwen2-fan": LoraCase("qwen2", ({"fan_in_fan_out": True},)),
    "gemma3-stacked": LoraCase("gemma3", ({}, {"lora_alpha": 2, "dtype": "F16"})),
}


def digest(weight: NDArray[np.float32]) -> NDArray[np.float64]:
    """A few numbers that change when `weight` does: its norm, projections on fixed vectors, a corner."""
    wide = weight.astype(np.float64)
    rows, columns = np.cos(np.arange(wide.shape[0])), np.sin(np.arange(wide.shape[1]))
    corner = wide[:3, :3].reshape(-1)
    return np.array([np.linalg.norm(wide), rows @ wide @ columns, wide[-1] @ columns, *corner])

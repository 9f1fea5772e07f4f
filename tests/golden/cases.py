"""The small random checkpoints whose reference numbers are recorded beside this file.

Weights come from a seed (`tests/make_checkpoints.py`), so only what the reference implementation answers is
stored: `<case>.npz` with

    seed        int64, of the weights
    prompt      int32[p]
    tokens      int32[64], chosen greedily after the prompt, the whole sequence computed anew for each
    margin      float32, smallest distance on the way between the two largest logits
    positions   int32[k], places in prompt + tokens
    logits      float32[k, vocab], at those places
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.make_checkpoints import make_checkpoint

DIRECTORY = Path(__file__).parent
NEW_TOKENS = 64
CONTEXT = 128


@dataclass(frozen=True)
class Case:
    """One checkpoint and its prompt."""

    family: str
    prompt: int = 24
    options: dict[str, Any] = field(default_factory=dict)
    variety: int = 8
    """Different tokens among the last 32, at least: a loop would test little."""

    def make(self, directory: Path, seed: int) -> Path:
        """Write the checkpoint into `directory`."""
        # Phi-3's default padding token lies outside so small a vocabulary.
        options = {"pad_token_id": 0, **self.options}
        return make_checkpoint(directory, self.family, seed=seed, **options)


@dataclass(frozen=True)
class Golden:
    """What was recorded for a case."""

    seed: int
    prompt: list[int]
    tokens: list[int]
    margin: float
    positions: NDArray[np.int32]
    logits: NDArray[np.float32]


def golden(name: str) -> Golden:
    """The recorded numbers of case `name`."""
    with np.load(DIRECTORY / f"{name}.npz") as stored:
        return Golden(
            int(stored["seed"]),
            stored["prompt"].tolist(),
            stored["tokens"].tolist(),
            float(stored["margin"]),
            stored["positions"],
            stored["logits"],
        )


def _yarn(**more: Any) -> dict[str, Any]:
    return {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, **more}


def _longrope(pairs: int) -> dict[str, Any]:
    long = [round(1.0 + 0.9 * i**1.5, 3) for i in range(pairs)]
    short = [round(1.0 + 0.07 * i, 3) for i in range(pairs)]
    return {"type": "longrope", "long_factor": long, "short_factor": short}


CASES: dict[str, Case] = {
    "llama": Case("llama", options={"dtype": "F16"}),
    "llama-tied": Case("llama", options={"tie_word_embeddings": True, "generation": 5}),
    "llama-all-heads": Case("llama", options={"num_key_value_heads": 4}),
    "llama-one-kv-head": Case("llama", options={"num_key_value_heads": 1, "dtype": "BF16"}),
    "llama-biases": Case("llama", options={"attention_bias": True, "mlp_bias": True}),
    "llama-linear": Case("llama", options={"rope_scaling": {"type": "linear", "factor": 4.0}}),
    "llama-llama3": Case(
        "llama",
        options={
            "generation": 5,
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 32,
            },
        },
    ),
    "llama-yarn": Case(
        "llama", options={"rope_scaling": _yarn(beta_fast=16.0, beta_slow=2.0), "generation": 5}
    ),
    "mistral": Case("mistral", options={"dtype": "BF16", "shards": 3}),
    "mistral-sliding": Case("mistral", options={"sliding_window": 16}),
    "mistral-sliding-long-prompt": Case("mistral", prompt=45, options={"sliding_window": 16}),
    "qwen2": Case("qwen2"),
    "qwen2-yarn": Case("qwen2", options={"rope_scaling": _yarn(), "tie_word_embeddings": False}),
    "qwen2-sliding": Case(
        "qwen2", options={"use_sliding_window": True, "sliding_window": 20, "max_window_layers": 1}
    ),
    "qwen3": Case("qwen3", options={"generation": 5, "dtype": "BF16"}),
    "qwen3-yarn": Case("qwen3", options={"rope_scaling": _yarn(attention_factor=1.2)}),
    "gemma3": Case("gemma3", options={"generation": 5, "tie_word_embeddings": False}),
    # With random tied embeddings the last token is nearly always repeated.
    "gemma3-tied": Case("gemma3", options={"generation": 5}, variety=2),
    "gemma3-linear": Case(
        "gemma3",
        options={
            "generation": 5,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
            "tie_word_embeddings": False,
        },
    ),
    "gemma3-long-prompt": Case(
        "gemma3", prompt=45, options={"generation": 5, "dtype": "BF16", "tie_word_embeddings": False}
    ),
    "phi3": Case("phi3"),
    "phi3-sliding": Case("phi3", options={"sliding_window": 20}),
    "phi3-longrope-long": Case(
        "phi3", options={"original_max_position_embeddings": 16, "rope_scaling": _longrope(8)}
    ),
    "phi3-longrope-short": Case(
        "phi3",
        options={
            "max_position_embeddings": 4096,
            "original_max_position_embeddings": 256,
            "rope_scaling": _longrope(8),
        },
    ),
    "phi3-partial-rotary": Case(
        "phi3",
        options={
            "original_max_position_embeddings": 16,
            "partial_rotary_factor": 0.75,
            "rope_scaling": _longrope(6),
        },
    ),
}

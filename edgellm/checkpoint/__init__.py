"""Reading checkpoints: config, weights, tokenizer, chat template; without torch and transformers."""

from __future__ import annotations

from edgellm.checkpoint.checkpoint import Checkpoint
from edgellm.checkpoint.families import Family, families

__all__ = ["Checkpoint", "Family", "families"]

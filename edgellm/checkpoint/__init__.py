"""Reading checkpoints: config, weights, tokenizer, chat template; without torch and transformers."""

from __future__ import annotations

from edgellm.checkpoint.checkpoint import Checkpoint
from edgellm.checkpoint.families import Family, families
from edgellm.checkpoint.hub import ResolvedModel, resolve_model
from edgellm.checkpoint.weights import Weights

__all__ = ["Checkpoint", "Family", "ResolvedModel", "Weights", "families", "resolve_model"]

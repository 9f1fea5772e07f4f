"""Whether a model's sliding window matters for sequences of a given length."""

from __future__ import annotations

from edgellm.bundle.model_config import ModelConfig


def active_window(config: ModelConfig, context: int) -> int:
    """The sliding window in tokens, or 0 where no sequence of `context` tokens can outgrow it."""
    window = config.sliding_window
    return window if window is not None and window < context else 0

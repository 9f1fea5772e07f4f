"""Continuous batching over one executor: requests in, streams of text out."""

from __future__ import annotations

from edgellm.engine.params import SamplingParams

__all__ = ["SamplingParams"]

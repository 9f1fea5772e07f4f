"""Continuous batching over one executor: requests in, streams of text out."""

from __future__ import annotations

from edgellm.engine.engine import Engine, EngineStats
from edgellm.engine.generation import Chunk, Generation, Result, TokenLogprob
from edgellm.engine.params import SamplingParams

__all__ = ["Chunk", "Engine", "EngineStats", "Generation", "Result", "SamplingParams", "TokenLogprob"]

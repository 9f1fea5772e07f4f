"""Continuous batching over one executor: requests in, streams of text out."""

from __future__ import annotations

from edgellm.backends.params import SamplingParams
from edgellm.engine.engine import Engine
from edgellm.engine.generation import Chunk, Generation, Result, TokenLogprob
from edgellm.engine.stats import EngineStats

__all__ = ["Chunk", "Engine", "EngineStats", "Generation", "Result", "SamplingParams", "TokenLogprob"]

"""What an engine has done so far, and what is going on in it."""

from __future__ import annotations

from dataclasses import dataclass

from edgellm.engine.generation import Generation
from edgellm.engine.scheduler import CacheStats
from edgellm.errors import EdgeLLMError


@dataclass(frozen=True)
class EngineStats:
    """Counts since the engine was opened, and what is going on now."""

    running: int
    waiting: int
    finished: int
    cancelled: int
    failed: int
    prompt_tokens: int
    generated_tokens: int
    cached_tokens: int
    cache: CacheStats | None = None
    """None in request mode, where the library keeps its cache to itself."""


@dataclass
class Counts:
    """Of requests that have ended."""

    finished: int = 0
    cancelled: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    cached_tokens: int = 0

    def add(self, generation: Generation) -> None:
        """Count one that has ended."""
        try:
            result = generation.result()
        except EdgeLLMError:
            self.failed += 1
            return
        if result.finish_reason == "cancelled":
            self.cancelled += 1
        else:
            self.finished += 1
        self.prompt_tokens += result.prompt_tokens
        self.generated_tokens += result.completion_tokens
        self.cached_tokens += result.cached_tokens

"""The generations of one HTTP request: `n` answers to each prompt, submitted and cancelled together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgellm.engine import Chunk, Engine, Generation, SamplingParams, TokenLogprob

# Chunks that may wait for a slow reader before the merged stream asks for more; the engine keeps the rest.
_MERGE_BUFFER = 64


@dataclass
class Answer:
    """One answer, as far as it has come."""

    index: int
    text: str = ""
    finish_reason: str = "cancelled"
    logprobs: list[TokenLogprob] = field(default_factory=list)

    def add(self, chunk: Chunk) -> None:
        """Append what `chunk` brings."""
        self.text += chunk.text
        self.logprobs += chunk.logprobs
        if chunk.finish_reason is not None:
            self.finish_reason = chunk.finish_reason


@dataclass
class Usage:
    """Tokens of a whole request: each prompt once, every answer.

    `cached_tokens` are those of the prompts that the engine found already computed.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    def plain(self) -> dict[str, Any]:
        """The API's `usage` object."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }


class Answers:
    """The running generations of one request. Close it, whatever happens: that frees their places."""

    def __init__(
        self, engine: Engine, prompts: Sequence[Sequence[int]], params: SamplingParams, n: int
    ) -> None:
        """Submit them all, or none.

        With a seed, answer i of a prompt gets seed + i, so that the answers differ and can be repeated.

        Raises:
            PromptTooLongError, QueueFullError, RequestError: as `Engine.submit` does.
        """
        self.prompts = prompts
        self.n = n
        seeds = [None if params.seed is None else (params.seed + i) % 2**63 for i in range(n)]
        self.generations: list[Generation] = engine.submit_many(
            [prompt for prompt in prompts for _ in range(n)],
            [replace(params, seed=seed) for _ in prompts for seed in seeds],
        )

    def cancel(self) -> None:
        """End every answer now; finished ones are not affected."""
        for generation in self.generations:
            generation.cancel()

    async def chunks(self) -> AsyncGenerator[tuple[int, Chunk], None]:
        """(answer's index, chunk) as they come, of all answers; each answer's chunks in order.

        Raises:
            ExecutorError: one answer failed; the others are cancelled.
        """
        if len(self.generations) == 1:
            async for chunk in self.generations[0]:
                yield 0, chunk
            return
        merged: asyncio.Queue[tuple[int, Chunk | BaseException | None]] = asyncio.Queue(_MERGE_BUFFER)

        async def pump(index: int, generation: Generation) -> None:
            try:
                async for chunk in generation:
                    await merged.put((index, chunk))
            except Exception as error:
                await merged.put((index, error))
            else:
                await merged.put((index, None))

        pumps = [asyncio.create_task(pump(i, g)) for i, g in enumerate(self.generations)]
        try:
            left = len(pumps)
            while left:
                index, item = await merged.get()
                if item is None:
                    left -= 1
                elif isinstance(item, BaseException):
                    raise item
                else:
                    yield index, item
        finally:
            for task in pumps:
                task.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    def usage(self) -> Usage:
        """Token counts, once all answers are finished."""
        results = [generation.result() for generation in self.generations]
        firsts = results[:: self.n]
        return Usage(
            prompt_tokens=sum(len(prompt) for prompt in self.prompts),
            completion_tokens=sum(result.completion_tokens for result in results),
            cached_tokens=sum(result.cached_tokens for result in firsts),
        )

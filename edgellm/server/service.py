"""`Service`: one engine behind the endpoints, and the answers it is busy with."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

from fastapi import Request
from starlette.responses import Response

from edgellm.errors import EdgeLLMError
from edgellm.server import wire
from edgellm.server.answers import Answer, Answers
from edgellm.server.errors import ApiError, from_error, invalid
from edgellm.server.fields import refuse_unsupported
from edgellm.server.guard import RECORD
from edgellm.server.metrics import Metrics, RequestRecord
from edgellm.server.schemas import MAX_ANSWERS, ChatRequest, CompletionRequest, GenerationRequest
from edgellm.server.stream import EventStream, unless_gone

if TYPE_CHECKING:
    from edgellm.engine import Chunk, Engine


class Service:
    """Turns requests into answers.

    Attributes:
        names: what the model is called; the first is shown.
        stopping: whether new requests are refused.
    """

    def __init__(self, engine: Engine, metrics: Metrics, names: Sequence[str]) -> None:
        self.engine = engine
        self.metrics = metrics
        self.names = tuple(names)
        self.created = int(time.time())
        self.stopping = False
        self.running: set[Answers] = set()

    def cancel_all(self) -> None:
        """End whatever still runs; its clients are told."""
        for answers in list(self.running):
            answers.cancel()

    def model_name(self, asked: str | None) -> str:
        """The name to answer under.

        Raises:
            ApiError: 404, the model is not the one served here.
        """
        if asked is None or asked in self.names:
            return asked or self.names[0]
        raise ApiError(
            404,
            f"the model {asked[:200]!r} does not exist here; this server has {', '.join(self.names)}",
            param="model",
            code="model_not_found",
        )

    async def chat(self, body: ChatRequest, request: Request) -> Response:
        """Answer a conversation."""
        model = self.model_name(body.model)
        if body.top_logprobs and not body.logprobs:
            raise invalid("top_logprobs needs logprobs to be true", "top_logprobs")
        refuse_unsupported(body.model_extra or {})
        if self.engine.bundle.manifest.chat_template is None:
            raise invalid(
                "this model has no chat template: it continues texts; use /v1/completions", "messages"
            )
        messages = [message.plain() for message in body.messages]
        shape = wire.ChatShape(model, self.engine.tokenizer, logprobs=bool(body.logprobs))
        try:
            # Templates and tokenizers may take a while on long prompts: not in the event loop.
            prompt = await asyncio.to_thread(self.engine.encode_messages, messages)
            return await self._answer(body, request, [prompt], shape)
        except EdgeLLMError as error:
            raise self._api_error(error, "messages") from error

    async def complete(self, body: CompletionRequest, request: Request) -> Response:
        """Continue texts."""
        model = self.model_name(body.model)
        n = body.n or 1
        extra = dict(body.model_extra or {})
        if extra.get("best_of") == n:
            del extra["best_of"]  # the best n of n are all of them
        refuse_unsupported(extra)
        if body.echo and body.logprobs is not None:
            raise invalid("echo cannot be combined with logprobs: only the answer's tokens have them", "echo")
        if len(body.prompt) * n > MAX_ANSWERS:
            raise invalid(
                f"{len(body.prompt)} prompts with n = {n} make {len(body.prompt) * n} answers; "
                f"one request may ask for {MAX_ANSWERS}",
                "n",
            )
        try:
            prompts = await asyncio.to_thread(self._encode, body.prompt)
            echoes = await asyncio.to_thread(self._echoes, body.prompt) if body.echo else [""] * len(prompts)
            shape = wire.CompletionShape(
                model,
                self.engine.tokenizer,
                logprobs=body.logprobs is not None,
                echoes=[echo for echo in echoes for _ in range(n)],
            )
            return await self._answer(body, request, prompts, shape)
        except EdgeLLMError as error:
            raise self._api_error(error, "prompt") from error

    def _encode(self, prompts: Sequence[str | list[int]]) -> list[list[int]]:
        vocab = self.engine.bundle.manifest.model.vocab_size
        encoded = []
        for prompt in prompts:
            if isinstance(prompt, str):
                prompt = self.engine.encode_prompt(prompt, raw=True)
            elif bad := [token for token in prompt if not 0 <= token < vocab]:
                raise invalid(f"prompt holds the token id {bad[0]}; allowed are 0 to {vocab - 1:,}", "prompt")
            if not prompt:
                raise invalid("prompt is empty; it needs at least one token", "prompt")
            encoded.append(prompt)
        return encoded

    def _echoes(self, prompts: Sequence[str | list[int]]) -> list[str]:
        return [p if isinstance(p, str) else self.engine.tokenizer.decode(p) for p in prompts]

    def _api_error(self, error: EdgeLLMError, prompt_field: str) -> ApiError:
        return from_error(error, prompt_field=prompt_field, retry_after_s=self.metrics.retry_after_s)

    async def _answer(
        self, body: GenerationRequest, request: Request, prompts: list[list[int]], shape: wire.Shape
    ) -> Response:
        if self.stopping:
            raise ApiError(503, "the server is stopping", headers={"Retry-After": "5"})
        record: RequestRecord = request.scope[RECORD]
        answers = Answers(self.engine, prompts, self.engine.params(**body.settings()), body.n or 1)
        self.running.add(answers)

        def release() -> None:
            answers.cancel()
            self.running.discard(answers)

        if body.stream:
            events = self._events(answers, shape, record, usage=body.include_usage)
            return EventStream(events, release)
        try:
            return await unless_gone(request.receive, self._whole(answers, shape, record))
        finally:
            release()

    async def _whole(self, answers: Answers, shape: wire.Shape, record: RequestRecord) -> Response:
        done = [Answer(i) for i in range(len(answers.generations))]
        async with aclosing(answers.chunks()) as chunks:
            async for index, chunk in chunks:
                _note(record, chunk)
                done[index].add(chunk)
        if any(answer.finish_reason == "cancelled" for answer in done):
            raise _cancelled()
        return Response(wire.encode(shape.whole(done, answers.usage())), media_type="application/json")

    async def _events(
        self, answers: Answers, shape: wire.Shape, record: RequestRecord, *, usage: bool
    ) -> AsyncGenerator[bytes, None]:
        record.outcome = "disconnected"  # unless the stream comes to its end
        extra = {"usage": None} if usage else {}
        for index in range(len(answers.generations)):
            if opening := shape.opening(index):
                yield wire.event(opening | extra)
        try:
            async with aclosing(answers.chunks()) as chunks:
                async for index, chunk in chunks:
                    _note(record, chunk)
                    if chunk.finish_reason == "cancelled":
                        raise _cancelled()
                    if chunk.text or chunk.logprobs:
                        yield wire.event(shape.piece(index, chunk.text, chunk.logprobs) | extra)
                    if chunk.finish_reason is not None:
                        yield wire.event(shape.ending(index, chunk.finish_reason) | extra)
            if usage:
                yield wire.event(shape.usage(answers.usage()))
            record.outcome = "completed"
        except (EdgeLLMError, ApiError) as error:
            record.outcome = "failed"
            said = error if isinstance(error, ApiError) else from_error(error)
            yield wire.event(said.body())
        yield wire.DONE


def _note(record: RequestRecord, chunk: Chunk) -> None:
    if chunk.token_ids:
        record.saw_token()
        record.completion_tokens += len(chunk.token_ids)


def _cancelled() -> ApiError:
    return ApiError(503, "the server is stopping and ended this answer early", headers={"Retry-After": "5"})

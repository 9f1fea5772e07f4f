"""What a request may say. Names, meanings and limits are those of the OpenAI API and of local servers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

MAX_MESSAGES = 4096
MAX_PARTS = 1024
MAX_PROMPTS = 256
MAX_ANSWERS = 128
"""Answers of one request, over all its prompts."""
MAX_COMPLETION_TOKENS_DEFAULT = 16
"""The OpenAI API's own default for `/v1/completions`; chat answers run until they end."""


def _wrong(message: str) -> PydanticCustomError:
    return PydanticCustomError("edgellm", "{said}", {"said": message})


def _flatten(content: Any) -> str:
    """One text from a text or a list of text parts."""
    if isinstance(content, str):
        return content
    if content is None:
        raise _wrong("must be a text or a list of text parts, not null")
    if not isinstance(content, list) or len(content) > MAX_PARTS:
        raise _wrong(f"must be a text or a list of at most {MAX_PARTS:,} text parts")
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        text = part.get(kind) if kind in ("text", "refusal") else None
        if isinstance(text, str):
            texts.append(text)
        elif isinstance(kind, str) and kind != "text":
            raise _wrong(f"parts of type {kind[:40]!r} are not supported; text is the only input")
        else:
            raise _wrong('each part must be {"type": "text", "text": "…"}')
    return "".join(texts)


def _prompts(prompt: Any) -> list[str | list[int]]:
    """A list of prompts from the four forms that `/v1/completions` knows."""
    if isinstance(prompt, str) or _is_ids(prompt):
        return [prompt]
    if not isinstance(prompt, list) or not prompt:
        raise _wrong("must be a text, a list of texts, a list of token ids, or a list of such lists")
    if len(prompt) > MAX_PROMPTS:
        raise _wrong(f"holds {len(prompt):,} prompts; allowed are {MAX_PROMPTS}")
    if not all(isinstance(p, str) or _is_ids(p) for p in prompt):
        raise _wrong("must be a text, a list of texts, a list of token ids, or a list of such lists")
    return prompt


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(i) is int for i in value)


def _stops(stop: Any) -> list[str]:
    stops = [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, list) or not all(isinstance(s, str) for s in stops):
        raise _wrong("must be a text or a list of texts")
    return stops


def _biases(bias: Any) -> dict[int, float]:
    if not isinstance(bias, dict) or not all(type(b) in (int, float) for b in bias.values()):
        raise _wrong("must be an object of token ids and numbers")
    try:
        return {int(token): float(value) for token, value in bias.items()}
    except (ValueError, OverflowError):
        raise _wrong("keys must be token ids (whole numbers) and values small numbers") from None


_TEXT_OR_PARTS = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]}
_PROMPT_FORMS = {
    "anyOf": [
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}},
        {"type": "array", "items": {"type": "integer"}},
        {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
    ]
}
Content = Annotated[str, BeforeValidator(_flatten), WithJsonSchema(_TEXT_OR_PARTS)]
Prompts = Annotated[list[str | list[int]], BeforeValidator(_prompts), WithJsonSchema(_PROMPT_FORMS)]
Stops = Annotated[
    list[str],
    BeforeValidator(_stops),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
Biases = Annotated[
    dict[int, float],
    BeforeValidator(_biases),
    WithJsonSchema({"type": "object", "additionalProperties": {"type": "number"}}),
]
Number = Annotated[float, Field(allow_inf_nan=False)]


class StreamOptions(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")

    include_usage: bool | None = None


class GenerationRequest(BaseModel):
    """What chat and text completions share. Null means the default, which is the bundle's own."""

    model_config = ConfigDict(strict=True, extra="allow")

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=MAX_ANSWERS)] | None = None
    max_tokens: int | None = None
    temperature: Number | None = None
    top_p: Number | None = None
    stop: Stops | None = None
    seed: int | None = None
    presence_penalty: Number | None = None
    frequency_penalty: Number | None = None
    logit_bias: Biases | None = None
    top_k: int | None = None
    min_p: Number | None = None
    repetition_penalty: Number | None = None
    ignore_eos: bool | None = None
    min_tokens: int | None = None
    stop_token_ids: list[int] | None = None

    def settings(self) -> dict[str, Any]:
        """The sampling settings given, under the names of `SamplingParams`."""
        said: dict[str, Any] = {
            name: value
            for name in (
                "temperature",
                "top_p",
                "presence_penalty",
                "frequency_penalty",
                "logit_bias",
                "min_p",
                "repetition_penalty",
                "ignore_eos",
                "min_tokens",
                "max_tokens",
            )
            if (value := getattr(self, name)) is not None
        }
        if self.stop:
            said["stop"] = tuple(self.stop)
        if self.stop_token_ids:
            said["stop_token_ids"] = tuple(self.stop_token_ids)
        if self.top_k is not None:
            said["top_k"] = max(self.top_k, 0) if self.top_k == -1 else self.top_k  # -1 is "off" elsewhere
        if self.seed is not None:
            said["seed"] = self.seed % 2**63  # the API allows any int64
        return said

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a chunk of usage."""
        return bool(self.stream_options and self.stream_options.include_usage)


class Message(BaseModel):
    """One turn. `developer` is the newer name of `system`."""

    model_config = ConfigDict(strict=True, extra="allow")

    role: Literal["system", "developer", "user", "assistant"]
    content: Content

    @model_validator(mode="after")
    def _no_tool_calls(self) -> Message:
        if (self.model_extra or {}).get("tool_calls") or (self.model_extra or {}).get("function_call"):
            raise _wrong("tool calls are not supported")
        return self

    def plain(self) -> dict[str, str]:
        """The turn as chat templates expect it."""
        return {"role": "system" if self.role == "developer" else self.role, "content": self.content}


class ChatRequest(GenerationRequest):
    """The body of `/v1/chat/completions`."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    def settings(self) -> dict[str, Any]:
        said = super().settings()
        if self.max_completion_tokens is not None:
            said["max_tokens"] = self.max_completion_tokens
        if self.logprobs:
            said["logprobs"] = self.top_logprobs or 0
        return said


class CompletionRequest(GenerationRequest):
    """The body of `/v1/completions`."""

    prompt: Prompts
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    def settings(self) -> dict[str, Any]:
        said = {"max_tokens": MAX_COMPLETION_TOKENS_DEFAULT} | super().settings()
        if self.logprobs is not None:
            said["logprobs"] = self.logprobs
        return said

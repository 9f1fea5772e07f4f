"""What goes back: the objects of the OpenAI API as plain dictionaries."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

import edgellm

if TYPE_CHECKING:
    from edgellm.engine import TokenLogprob
    from edgellm.server.answers import Answer, Usage
    from edgellm.text import Tokenizer

# JSON has no infinity; the OpenAI API writes this for a token that cannot be chosen.
_LEAST_LOGPROB = -9999.0


def encode(value: Any) -> bytes:
    """`value` as JSON."""
    return msgspec.json.encode(value)


def event(value: Any) -> bytes:
    """`value` as one server-sent event."""
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


DONE = b"data: [DONE]\n\n"
WAITING = b": waiting\n\n"
"""A comment, which clients skip: tells proxies that the connection is alive."""


class ChatShape:
    """`chat.completion` and its chunks."""

    def __init__(self, model: str, tokenizer: Tokenizer, *, logprobs: bool) -> None:
        self.head = _head("chatcmpl-", model)
        self.tokenizer = tokenizer
        self.logprobs = logprobs

    def whole(self, answers: Sequence[Answer], usage: Usage) -> dict[str, Any]:
        """The response when not streaming."""
        choices = [
            {
                "index": answer.index,
                "message": {"role": "assistant", "content": answer.text, "refusal": None},
                "logprobs": self._logprobs(answer.logprobs),
                "finish_reason": answer.finish_reason,
            }
            for answer in answers
        ]
        return self.head | {"object": "chat.completion", "choices": choices, "usage": usage.plain()}

    def opening(self, index: int) -> dict[str, Any]:
        """The first chunk of an answer."""
        return self._chunk(index, {"role": "assistant", "content": ""}, None, None)

    def piece(self, index: int, text: str, logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
        """A chunk of text."""
        return self._chunk(index, {"content": text}, self._logprobs(logprobs), None)

    def ending(self, index: int, finish_reason: str) -> dict[str, Any]:
        """The last chunk of an answer."""
        return self._chunk(index, {}, None, finish_reason)

    def usage(self, usage: Usage) -> dict[str, Any]:
        """The chunk of `stream_options.include_usage`."""
        return self.head | {"object": "chat.completion.chunk", "choices": [], "usage": usage.plain()}

    def _chunk(self, index: int, delta: Any, logprobs: Any, finish_reason: str | None) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        return self.head | {"object": "chat.completion.chunk", "choices": [choice]}

    def _logprobs(self, logprobs: Sequence[TokenLogprob]) -> dict[str, Any] | None:
        if not self.logprobs:
            return None
        content = [
            self._token(entry.token_id, entry.logprob)
            | {"top_logprobs": [self._token(token_id, logprob) for token_id, logprob in entry.top]}
            for entry in logprobs
        ]
        return {"content": content, "refusal": None}

    def _token(self, token_id: int, logprob: float) -> dict[str, Any]:
        raw = self.tokenizer.token_bytes(token_id)
        return {
            "token": raw.decode("utf-8", "replace"),
            "logprob": _finite(logprob),
            "bytes": list(raw),
        }


class CompletionShape:
    """`text_completion`; its chunks have the same form."""

    def __init__(self, model: str, tokenizer: Tokenizer, *, logprobs: bool, echoes: Sequence[str]) -> None:
        """
        Args:
            echoes: text that goes before each answer, by the answer's index ("" for none).
        """
        self.head = _head("cmpl-", model) | {"object": "text_completion"}
        self.tokenizer = tokenizer
        self.logprobs = logprobs
        self.echoes = echoes
        self.offsets = [len(echo) for echo in echoes]

    def whole(self, answers: Sequence[Answer], usage: Usage) -> dict[str, Any]:
        """The response when not streaming."""
        choices = [
            {
                "index": answer.index,
                "text": self.echoes[answer.index] + answer.text,
                "logprobs": self._logprobs(answer.index, answer.logprobs),
                "finish_reason": answer.finish_reason,
            }
            for answer in answers
        ]
        return self.head | {"choices": choices, "usage": usage.plain()}

    def opening(self, index: int) -> dict[str, Any] | None:
        """The echoed prompt, if asked for."""
        return self._chunk(index, self.echoes[index], None, None) if self.echoes[index] else None

    def piece(self, index: int, text: str, logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
        """A chunk of text."""
        return self._chunk(index, text, self._logprobs(index, logprobs), None)

    def ending(self, index: int, finish_reason: str) -> dict[str, Any]:
        """The last chunk of an answer."""
        return self._chunk(index, "", None, finish_reason)

    def usage(self, usage: Usage) -> dict[str, Any]:
        """The chunk of `stream_options.include_usage`."""
        return self.head | {"choices": [], "usage": usage.plain()}

    def _chunk(self, index: int, text: str, logprobs: Any, finish_reason: str | None) -> dict[str, Any]:
        choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish_reason}
        return self.head | {"choices": [choice]}

    def _logprobs(self, index: int, logprobs: Sequence[TokenLogprob]) -> dict[str, Any] | None:
        if not self.logprobs:
            return None
        said: dict[str, Any] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        for entry in logprobs:
            text = self._text(entry.token_id)
            said["tokens"].append(text)
            said["token_logprobs"].append(_finite(entry.logprob))
            said["top_logprobs"].append({self._text(t): _finite(p) for t, p in entry.top})
            said["text_offset"].append(self.offsets[index])
            self.offsets[index] += len(text)
        return said

    def _text(self, token_id: int) -> str:
        return self.tokenizer.token_bytes(token_id).decode("utf-8", "replace")


Shape = ChatShape | CompletionShape


def models(names: Sequence[str], created: int, context: int) -> dict[str, Any]:
    """The list of `/v1/models`: one bundle under each of its names."""
    return {"object": "list", "data": [model(name, created, context) for name in names]}


def model(name: str, created: int, context: int) -> dict[str, Any]:
    """One entry of that list; `max_model_len` is how other local servers say the context's size."""
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "edgellm",
        "max_model_len": context,
    }


def _head(prefix: str, model_name: str) -> dict[str, Any]:
    return {
        "id": prefix + secrets.token_hex(12),
        "created": int(time.time()),
        "model": model_name,
        "system_fingerprint": f"edgellm-{edgellm.__version__}",
    }


def _finite(logprob: float) -> float:
    return logprob if math.isfinite(logprob) else _LEAST_LOGPROB

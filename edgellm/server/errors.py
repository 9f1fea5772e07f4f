"""Errors as the OpenAI API shapes them: `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from edgellm.backends.params import SamplingParams
from edgellm.errors import (
    EdgeLLMError,
    ExecutorError,
    PromptTooLongError,
    QueueFullError,
    RequestError,
    TemplateError,
)

_SAMPLING_FIELDS = frozenset(SamplingParams.__dataclass_fields__)

_CODES = {
    401: ("authentication_error", "invalid_api_key"),
    403: ("permission_error", "host_not_allowed"),
    404: ("invalid_request_error", "not_found"),
    405: ("invalid_request_error", "method_not_allowed"),
    408: ("invalid_request_error", "body_timeout"),
    413: ("invalid_request_error", "body_too_large"),
    415: ("invalid_request_error", "unsupported_media_type"),
    429: ("rate_limit_error", "queue_full"),
    503: ("server_error", "server_stopping"),
}


class ApiError(Exception):
    """An answer other than 2xx.

    Attributes:
        status: the HTTP status. message: what happened and what to do.
        type, code: words for programs. param: the request's field that is wrong, if one is.
        headers: extra response headers.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        default = ("server_error", "internal_error") if status >= 500 else ("invalid_request_error", None)
        self.status = status
        self.message = message
        self.type, usual_code = _CODES.get(status, default)
        self.param = param
        self.code = code or usual_code
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """The error as JSON-ready objects."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    def json(self) -> bytes:
        """The error as JSON text."""
        return msgspec.json.encode(self.body())


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """A 400."""
    return ApiError(400, message, param=param, code=code)


def from_error(error: EdgeLLMError, *, prompt_field: str | None = None, retry_after_s: int = 1) -> ApiError:
    """The HTTP form of an error of edgellm.

    Args:
        prompt_field: the request's field that holds the prompt ("messages" or "prompt").
        retry_after_s: for a full queue, when to come back.
    """
    message = str(error)
    if isinstance(error, PromptTooLongError):
        return invalid(message, prompt_field, "context_length_exceeded")
    if isinstance(error, QueueFullError):
        return ApiError(429, message, headers={"Retry-After": str(retry_after_s)})
    if isinstance(error, RequestError):
        named = [word for word in re.findall(r"\w+", message) if word in _SAMPLING_FIELDS]
        return invalid(message, named[0] if named else None)
    if isinstance(error, TemplateError):
        return invalid(message, prompt_field, "template_refused")
    if isinstance(error, ExecutorError):
        return ApiError(500, message, code="executor_failed")
    return ApiError(500, message)


def from_validation(errors: list[Any]) -> ApiError:
    """The first of pydantic's `errors` (its `.errors()`), with the field's path as OpenAI writes it."""
    first = errors[0]
    kind = first.get("type")
    if kind == "json_invalid":
        return invalid(f"the body is not valid JSON: {first.get('ctx', {}).get('error', 'malformed')}")
    path = [part for part in first["loc"] if part != "body"]
    field = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).removeprefix(".")
    if not field:
        return invalid("the body must be one JSON object")
    if kind == "missing":
        return invalid(f"{field} is missing; it is required", field, "missing_required_parameter")
    said = str(first["msg"]).removeprefix("Value error, ")
    return invalid(f"{field}: {said[:1].lower()}{said[1:]}", field)

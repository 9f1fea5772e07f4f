"""The one exception family of edgellm.

Every error a user can cause is an `EdgeLLMError`. Its message is one sentence or two: what happened,
to which file, tensor or option, and what to do about it. The command line prints it without a traceback.
"""

from __future__ import annotations


class EdgeLLMError(Exception):
    """Base of every error that edgellm raises on purpose."""


class UsageError(EdgeLLMError):
    """An option or argument is wrong or contradicts another one."""


class CheckpointError(EdgeLLMError):
    """A checkpoint is missing, damaged, or says something that cannot be."""


class UnsupportedError(EdgeLLMError):
    """The family, feature, quantization or target cannot be built or run; names the nearest that can."""


class BundleError(EdgeLLMError):
    """A bundle is missing, damaged, of a newer format, or cannot be written."""


class TemplateError(EdgeLLMError):
    """A chat template is malformed, refuses its messages, or exceeds its limits."""


class MissingDependencyError(EdgeLLMError):
    """An optional package is needed; says which extra installs it."""


class RequestError(EdgeLLMError):
    """A generation request cannot be served as asked (the HTTP server answers 400)."""


class PromptTooLongError(RequestError):
    """The prompt and the asked-for tokens do not fit into the context.

    Attributes:
        prompt_tokens: tokens in the prompt.
        context: tokens that the bundle's context holds.
    """

    def __init__(self, message: str, prompt_tokens: int, context: int) -> None:
        super().__init__(message)
        self.prompt_tokens = prompt_tokens
        self.context = context


class QueueFullError(EdgeLLMError):
    """Too many requests are waiting (the HTTP server answers 429)."""


class ExecutorError(EdgeLLMError):
    """The backend failed while running a step or a cohort."""


class DeviceLostError(ExecutorError):
    """The device that runs a bundle is gone; no request can be answered until the bundle is opened anew."""

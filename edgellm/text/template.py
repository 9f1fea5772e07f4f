"""`ChatTemplate`: messages to a prompt, by the Jinja template that comes with a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from edgellm.errors import TemplateError
from edgellm.text.budget import fresh_budget, plain, refuse_larger

if TYPE_CHECKING:
    from edgellm.text.sandbox import SandboxEnvironment

MAX_TEMPLATE_CHARS = 1 << 20


class ChatTemplate:
    """A compiled template. Rendering is sandboxed and bounded in time and memory; threads may share one."""

    def __init__(self, source: str, *, bos_token: str = "", eos_token: str = "", unk_token: str = "") -> None:
        """Compile `source`, at most MAX_TEMPLATE_CHARS; TemplateError if it is malformed."""
        if len(source) > MAX_TEMPLATE_CHARS:
            raise TemplateError(f"the chat template is longer than {MAX_TEMPLATE_CHARS:,} characters")
        self.source = source
        self.tokens = {"bos_token": bos_token, "eos_token": eos_token, "unk_token": unk_token}
        with fresh_budget():
            try:
                self._template = _environment().from_string(source)
            except Exception as error:
                raise _readable(error, "cannot be compiled") from None

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
        strftime: Callable[[str], str] | None = None,
    ) -> str:
        """The prompt for `messages`, each with `role` and `content`.

        Args:
            add_generation_prompt: end with the opening of the assistant's answer.
            tools: JSON schemas of functions, for templates that know tools.
            strftime: what `strftime_now` gives for a pattern; None: the date and time of now.

        Raises:
            TemplateError: the template refuses the messages, fails, or exceeds a limit.
        """
        with fresh_budget() as budget:
            variables = {
                "messages": budget.check(plain(messages)),
                "tools": budget.check(plain(tools)),
                "documents": None,
                "add_generation_prompt": add_generation_prompt,
                **self.tokens,
            }
            if strftime is not None:
                variables["strftime_now"] = strftime
            parts: list[str] = []
            size = 0
            try:
                for part in self._template.generate(variables):
                    size += len(part)
                    refuse_larger(size)
                    parts.append(part)
            except Exception as error:
                raise _readable(error, "failed") from None
        return "".join(parts)


def _readable(error: Exception, what: str) -> TemplateError:
    if isinstance(error, TemplateError):
        return error
    if isinstance(error, RecursionError):
        return TemplateError(f"the chat template {what}: it is nested too deeply or calls itself without end")
    line = getattr(error, "lineno", None)
    where = f" (line {line})" if isinstance(line, int) else ""
    return TemplateError(f"the chat template {what}{where}: {str(error)[:500] or type(error).__name__}")


@cache
def _environment() -> SandboxEnvironment:
    from edgellm.text.sandbox import SandboxEnvironment  # Jinja takes 40 ms to import

    return SandboxEnvironment()

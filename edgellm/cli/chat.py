"""`edgellm chat`: talk to a bundle in the terminal."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgellm.cli.options import engine_options, note_memory, open_engine, sampling_options, split_options
from edgellm.cli.output import print_answer
from edgellm.errors import EdgeLLMError, PromptTooLongError

if TYPE_CHECKING:
    from edgellm.engine import Engine, Result

HELP = """\
/reset          forget the conversation
/system TEXT    set the system prompt (empty: none) and forget the conversation
/stats          tokens, speed and room left in the context
/save FILE      write the conversation as JSON messages
/help           this list
/exit           leave (Ctrl-D does too)
Ctrl-C stops an answer."""


@click.command()
@click.argument("bundle", type=click.Path())
@click.option("--system", metavar="TEXT", help="System prompt.")
@sampling_options
@engine_options
def chat(bundle: str, system: str | None, **options: Any) -> None:
    """Talk to a bundle in the terminal.

    The conversation is kept, so later turns can refer to earlier ones. When input is piped in, each line
    is one turn and only the answers are printed.
    """
    engine_settings, sampling = split_options(options)
    interactive = sys.stdin.isatty()
    # One conversation needs one place.
    shown = {"on_memory": note_memory} if interactive else {}
    with open_engine(bundle, {"max_batch": 1} | engine_settings | shown) as engine:
        engine.params(**sampling)  # a setting that cannot work is refused before the first question
        session = _Session(engine, system, sampling, interactive)
        if interactive:
            _line_editing()
            model = engine.bundle.manifest
            click.secho(
                f"{model.source.name} · {model.quant} · {model.target} · /help for commands", dim=True
            )
        while (line := _read_line(interactive)) is not None:
            if not session.handle(line):
                break


def _line_editing() -> None:
    """Arrow keys and history for `input()`, where the platform has readline."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  (importing is what switches it on)


def _read_line(interactive: bool) -> str | None:
    """The next line; None at the end of input. Ctrl-C clears the line."""
    while True:
        try:
            return input(">>> ") if interactive else input()
        except EOFError:
            if interactive:
                click.echo()
            return None
        except KeyboardInterrupt:
            if not interactive:
                raise
            click.secho("\n(/exit or Ctrl-D to leave)", dim=True)


class _Session:
    """The conversation and its commands."""

    def __init__(
        self, engine: Engine, system: str | None, sampling: dict[str, Any], interactive: bool
    ) -> None:
        self.engine = engine
        self.sampling = sampling
        self.interactive = interactive
        self.system = system
        self.messages: list[dict[str, str]] = []
        self.last: Result | None = None
        self.reset()

    def reset(self) -> None:
        self.messages = [{"role": "system", "content": self.system}] if self.system else []

    def handle(self, line: str) -> bool:
        """Answer a line or run its command; False to leave."""
        line = line.strip()
        name, _, rest = line.partition(" ")
        rest = rest.strip()
        try:
            if name in ("/exit", "/quit", "/bye"):
                return False
            if name == "/reset":
                self.reset()
                self._say("conversation forgotten")
            elif name == "/system":
                self.system = rest or None
                self.reset()
                self._say("system prompt set, conversation forgotten" if rest else "no system prompt now")
            elif name == "/stats":
                click.echo(self._stats())
            elif name == "/save":
                self._save(rest)
            elif name == "/help":
                click.echo(HELP)
            elif name.startswith("/") and name[1:].isalpha():
                self._say(f"no command is called {name}; /help lists them")
            elif line:
                self._answer(line)
        except EdgeLLMError as error:
            if not self.interactive:
                raise
            click.secho(f"error: {error}", fg="red", err=True)
        return True

    def _say(self, text: str) -> None:
        click.secho(text, dim=True, err=not self.interactive)

    def _answer(self, question: str) -> None:
        """Stream the answer to `question`; both stay in the conversation, also when Ctrl-C stops it."""
        turn = [*self.messages, {"role": "user", "content": question}]
        try:
            prompt_ids = self.engine.encode_messages(turn)
            generation = self.engine.submit(prompt_ids, self.engine.params(**self.sampling))
        except PromptTooLongError as error:
            if not self.messages:
                raise
            raise EdgeLLMError(f"the conversation is full: {error} (/reset starts a new one)") from None
        try:
            for chunk in generation:
                print_answer(chunk.text)
        except KeyboardInterrupt:
            generation.cancel()
            if not self.interactive:
                raise
            click.secho(" (stopped)", dim=True, nl=False)
        finally:
            click.echo()
        self.last = generation.result()
        if self.last.finish_reason == "length":
            self._say("(the answer reached the limit of its length)")
        self.messages = [*turn, {"role": "assistant", "content": self.last.text}]

    def _stats(self) -> str:
        context = self.engine.context
        if self.last is None:
            return f"no answer yet; the context holds {context} tokens"
        last = self.last
        used = last.prompt_tokens + last.completion_tokens
        decode = (last.completion_tokens - 1) / max(last.seconds - last.ttft_s, 1e-9)
        return (
            f"last answer: {last.completion_tokens} tokens, {decode:.1f} tokens/s after the first; "
            f"prompt: {last.prompt_tokens} tokens ({last.cached_tokens} cached), first token after "
            f"{1000 * last.ttft_s:.0f} ms; context: {used} of {context} tokens used"
        )

    def _save(self, name: str) -> None:
        """Write the conversation beside its place first, so that an old file is never half overwritten."""
        if not name:
            raise EdgeLLMError("/save needs a file name: /save talk.json")
        path = Path(name).expanduser()
        beside = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
        try:
            beside.write_text(
                json.dumps(self.messages, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
            )
            beside.replace(path)
        except OSError as error:
            beside.unlink(missing_ok=True)
            raise EdgeLLMError(f"cannot write {path}: {error.strerror}; name another file") from None
        self._say(f"saved {len(self.messages)} messages to {path}")

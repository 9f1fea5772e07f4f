"""The group of all commands: lazy imports, and one place where errors become messages and exit statuses.

Exit status: 0 done; 1 failed, with one line on stderr; 2 wrong usage; 128 + n ended by signal n.
"""

from __future__ import annotations

import _thread
import contextlib
import importlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import IO, Any, NoReturn

import click

from edgellm import __version__
from edgellm.errors import EdgeLLMError, UsageError

COMMANDS = {
    "build": "Build a bundle from a checkpoint, for one target.",
    "chat": "Chat with a bundle in the terminal.",
    "generate": "Answer one prompt, or a file of them.",
    "serve": "Serve a bundle over HTTP, as the OpenAI API does.",
    "bench": "Measure a bundle's speed and memory.",
    "eval": "Measure what quantization costs: perplexity, KL divergence.",
    "inspect": "Show what a bundle is and what it needs.",
    "verify": "Check every byte of a bundle.",
    "package": "Package a bundle as a static site for browsers.",
    "targets": "List the targets that bundles are built for.",
    "models": "List the model families that can be built.",
    "doctor": "Show what this machine can build and run.",
}
"""Command -> its short help. The command is `edgellm.cli.NAME:NAME`."""


class Failure(click.ClickException):
    """Prints `error: MESSAGE` on stderr, as one line."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"error: {self.message}", file=file or sys.stderr)


class UsageFailure(Failure):
    """An option that is wrong in itself."""

    exit_code = 2


class LazyGroup(click.Group):
    """A click group whose commands are imported on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f"edgellm.cli.{cmd_name}"), cmd_name)
        command.short_help = COMMANDS[cmd_name]
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.Abort, click.exceptions.Exit, BrokenPipeError):
            raise
        except Exception as error:
            if ctx.params.get("debug"):
                raise
            raise _failure(error) from error


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(__version__, prog_name="edgellm")
def cli(debug: bool) -> None:
    """Run language models on the devices people already have.

    A checkpoint is built into a bundle for one target; everything else runs bundles:

    \b
        edgellm build demo --out demo-bundle
        edgellm chat demo-bundle
    """


def run(arguments: Sequence[str]) -> int:
    """Run the command line; returns the exit status."""
    try:
        _unwind_on_signals()
        status = cli.main(list(arguments), prog_name="edgellm", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone: not worth a message. Nothing more can be flushed at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status if isinstance(status, int) else 0


def one_line(text: str) -> str:
    """`text` on one line, without characters that could steer a terminal."""
    return printable(" ".join(text.split()))


def printable(text: str) -> str:
    """`text` with each unprintable character (escape sequences begin with one) replaced."""
    return "".join(character if character.isprintable() else "�" for character in text)


def _failure(error: Exception) -> Failure:
    if isinstance(error, UsageError):
        return UsageFailure(str(error))
    if isinstance(error, EdgeLLMError):
        return Failure(str(error))
    if isinstance(error, MemoryError):
        return Failure("this machine has too little free memory for that")
    if isinstance(error, OSError) and error.strerror:
        name = f"{os.fsdecode(error.filename)}: " if error.filename is not None else ""
        return Failure(f"{name}{error.strerror}")
    hint = "edgellm --debug COMMAND shows where"
    return Failure(f"unexpected {type(error).__name__}: {error} (a bug in edgellm; {hint})")


def _unwind_on_signals() -> None:
    """Let SIGTERM and SIGHUP unwind the stack as Ctrl-C does, so that a build's temporary is removed."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:  # nohup ignores SIGHUP
            signal.signal(number, _unwind)
    sys.unraisablehook = _deliver_again


def _unwind(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _deliver_again(unraisable: Any) -> None:
    """Python drops an exception raised inside a destructor or a weak reference's callback; if that was an
    interrupt, send the signal again."""
    error = unraisable.exc_value
    if isinstance(error, KeyboardInterrupt):
        number = int(signal.SIGINT)
    elif isinstance(error, SystemExit) and isinstance(error.code, int) and error.code > 128:
        number = error.code - 128
    else:
        sys.__unraisablehook__(unraisable)
        return
    with contextlib.suppress(RuntimeError):  # the interpreter is ending anyway
        again = threading.Timer(0.01, _send_to_main_thread, (signal.Signals(number),))
        again.daemon = True
        again.start()


def _send_to_main_thread(number: signal.Signals) -> None:
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, number)  # wakes it from a system call, too
    else:
        _thread.interrupt_main(number)

"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgellm.cli.output import note

if TYPE_CHECKING:
    from edgellm.backends.memory import MemoryPlan
    from edgellm.engine import Engine

F = TypeVar("F", bound=Callable[..., Any])


def environment_option(name: str, *more: str, **settings: Any) -> Callable[[F], F]:
    """An option that can also be set as EDGELLM_NAME."""
    variable = "EDGELLM_" + name.removeprefix("--").replace("-", "_").upper()
    return click.option(
        name, *more, envvar=variable, show_default=settings.pop("show_default", True), **settings
    )


def _kv(option: Any) -> Callable[[F], F]:
    made: Callable[[F], F] = option(
        "--kv",
        type=click.Choice(["fp16", "fp32", "int8"]),
        metavar="TYPE",
        help="What the key/value cache holds: fp16, fp32, or int8 in half of fp16's memory.  "
        "[default: the bundle's]",
    )
    return made


def _engine(option: Any) -> tuple[Callable[[F], F], ...]:
    return (
        option(
            "--threads",
            type=click.IntRange(1, 1024),
            help="CPU threads of a step or cohort.  [default: one per core]",
        ),
        option(
            "--context",
            type=click.IntRange(1),
            help="Tokens of prompt and answer together; less needs less memory.  [default: the bundle's]",
        ),
        option(
            "--max-batch",
            type=click.IntRange(1, 4096),
            help="Requests that run together; each gets memory for its whole context.  "
            "[default: the backend's]",
        ),
        option(
            "--workers",
            type=click.IntRange(1, 64),
            help="Cohorts at a time (request mode).  [default: the backend's]",
        ),
        _kv(option),
    )


_SAMPLING = (
    click.option(
        "--max-tokens", type=click.IntRange(1), help="New tokens at most [default: what the context holds]"
    ),
    click.option("--temperature", type=click.FloatRange(0, 100), help="0 = always the likeliest token."),
    click.option("--top-k", type=click.IntRange(0), help="Draw from the k likeliest tokens; 0 = all."),
    click.option(
        "--top-p", type=click.FloatRange(0, 1, min_open=True), help="Draw from the likeliest mass p."
    ),
    click.option(
        "--min-p", type=click.FloatRange(0, 1), help="Leave out tokens below p times the likeliest."
    ),
    click.option("--repetition-penalty", type=click.FloatRange(0, 10, min_open=True), help="1 = off."),
    click.option("--seed", type=click.IntRange(0), help="Same seed and settings: same answer."),
    click.option("--stop", multiple=True, metavar="TEXT", help="End before this text; repeatable."),
    click.option("--ignore-eos", is_flag=True, default=None, help="Go on past end tokens."),
)


def _all(options: tuple[Callable[[F], F], ...]) -> Callable[[F], F]:
    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def kv_option(command: F) -> F:
    """--kv by itself."""
    return _kv(click.option)(command)


def engine_options(command: F) -> F:
    """--threads, --context, --max-batch, --workers, --kv."""
    return _all(_engine(click.option))(command)


def served_engine_options(command: F) -> F:
    """The same, which can be set in the environment too."""
    return _all(_engine(environment_option))(command)


def sampling_options(command: F) -> F:
    """The sampling settings; those not given on the command line stay at the bundle's defaults."""
    return _all(_SAMPLING)(command)


def split_options(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(engine settings, sampling settings) that were given, from a command's keyword arguments."""
    names = ("threads", "context", "max_batch", "workers", "kv")
    engine = {name: options[name] for name in names if options.get(name) is not None}
    sampling = {k: v for k, v in options.items() if k not in names and v is not None and v != ()}
    return engine, sampling


def note_memory(memory: MemoryPlan) -> None:
    """What an engine takes of its device's memory, line by line on stderr."""
    for line in memory.lines():
        note(line)


def open_engine(bundle: str | Path, settings: dict[str, Any]) -> Engine:
    """Open an engine; imported here so that `--help` stays fast. What it takes of a GPU is told before."""
    from edgellm.engine import Engine

    return Engine(bundle, **{"on_memory": _note_gpu_memory} | settings)


def _note_gpu_memory(memory: MemoryPlan) -> None:
    if memory.on_gpu:
        note_memory(memory)

"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from edgellm.engine import Engine

F = TypeVar("F", bound=Callable[..., Any])

_ENGINE = (
    click.option(
        "--threads", type=click.IntRange(1, 1024), help="CPU threads of a step [default: one per core]"
    ),
    click.option("--max-batch", type=click.IntRange(1, 4096), help="Sequences that run together."),
    click.option(
        "--context", type=click.IntRange(1), help="Tokens one sequence may hold [default: the bundle's]"
    ),
    click.option(
        "--workers", type=click.IntRange(1, 64), help="Cohorts that run at once (request-level bundles only)."
    ),
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


def engine_options(command: F) -> F:
    """--threads, --max-batch, --context, --workers."""
    return _all(_ENGINE)(command)


def sampling_options(command: F) -> F:
    """The sampling settings; those not given on the command line stay at the bundle's defaults."""
    return _all(_SAMPLING)(command)


def split_options(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(engine settings, sampling settings) that were given, from a command's keyword arguments."""
    names = ("threads", "max_batch", "context", "workers")
    engine = {name: options[name] for name in names if options.get(name) is not None}
    sampling = {k: v for k, v in options.items() if k not in names and v is not None and v != ()}
    return engine, sampling


def open_engine(bundle: str, settings: dict[str, Any]) -> Engine:
    """Open an engine; imported here so that `--help` stays fast."""
    from edgellm.engine import Engine

    return Engine(bundle, **settings)

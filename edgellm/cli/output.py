"""Printing, the same way for all commands: JSON for machines, tables and progress for people.

Results go to stdout; progress and notes go to stderr, and progress only if that is a terminal.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgellm.cli.group import printable

if TYPE_CHECKING:
    from rich.console import Console

_PLAIN_WIDTH = 200
_COUNTED = ("compile", "score")
"""Stages whose progress is in pieces, not bytes."""
F = TypeVar("F", bound=Callable[..., Any])


def json_option(function: F) -> F:
    """The option `--json`, as parameter `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")(function)


def print_json(value: object) -> None:
    """One JSON value on one line of stdout, flushed."""
    click.echo(json.dumps(value, ensure_ascii=False))
    sys.stdout.flush()


def note(text: str) -> None:
    """A line for people, on stderr."""
    click.echo(printable(text), err=True)


def print_answer(text: str) -> None:
    """A piece of a model's answer on stdout, at once; on a terminal without what could steer it."""
    if sys.stdout.isatty():
        text = "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)
    sys.stdout.write(text)
    sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> None:
    """A table on stdout. Cells are shown as they are: no markup, no control characters."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(cell)) for cell in row))
    console().print(table)


def print_facts(facts: Sequence[tuple[str, str]], title: str | None = None) -> None:
    """Names and values in two columns on stdout; a value may have several lines."""
    from rich.table import Table
    from rich.text import Text

    out = console()
    if title is not None:
        out.print(Text(_cell(title), style="bold"))
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in facts:
        grid.add_row(Text(_cell(name)), Text(_cell(value)))
    out.print(grid)


def console(*, stderr: bool = False) -> Console:
    """A rich console; wide enough not to cut lines where the output is not a terminal."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _PLAIN_WIDTH
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


@contextmanager
def progress_bars(
    titles: dict[str, str], *, quiet: bool = False
) -> Iterator[Callable[[str, int, int], None]]:
    """Progress bars on stderr, one a stage, shown from the stage's first report on.

    Args:
        titles: stage -> what to call it. quiet: show nothing.

    Yields:
        A function (stage, done, in all), in bytes but for the stages "compile" and "score".
    """
    if quiet or not sys.stderr.isatty():
        yield lambda stage, done, total: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from edgellm.units import bytes_text

    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[amount]}"),
        TimeRemainingColumn(),
        console=console(stderr=True),
        transient=True,
    )
    tasks: dict[str, Any] = {}

    def report(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            tasks[stage] = bars.add_task(titles.get(stage, stage), total=total, amount="")
        of = [str(value) if stage in _COUNTED else bytes_text(value) for value in (done, total)]
        bars.update(tasks[stage], completed=done, total=total, amount=" of ".join(of))

    with bars:
        yield report


def _cell(text: str) -> str:
    return "\n".join(printable(line) for line in text.split("\n"))

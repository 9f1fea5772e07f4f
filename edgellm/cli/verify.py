"""`edgellm verify`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from edgellm.cli.output import json_option, note, print_json, print_table


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@json_option
def verify(bundle: Path, as_json: bool) -> None:
    """Check every byte of BUNDLE against its manifest. The exit status is 1 if anything differs."""
    from edgellm.bundle import verify as verify_bundle

    problems = verify_bundle(bundle)
    if as_json:
        found = [{"file": problem.file, "problem": problem.problem} for problem in problems]
        print_json({"ok": not problems, "problems": found})
    elif problems:
        print_table(["file", "problem"], [(problem.file, problem.problem) for problem in problems])
        note(f"error: {bundle} is damaged: build it again, or copy it again from where it came")
    else:
        click.echo(f"{bundle} is whole")
    sys.exit(1 if problems else 0)

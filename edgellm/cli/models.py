"""`edgellm models`."""

from __future__ import annotations

import click

from edgellm.cli.output import json_option, note, print_json, print_table


@click.command()
@json_option
def models(as_json: bool) -> None:
    """List the model families that can be built, with Hugging Face ids to try, and their limits."""
    from edgellm.backends import BACKENDS
    from edgellm.checkpoint import families
    from edgellm.resources import data_dir

    demo = (data_dir("models") / "demo" / "config.json").is_file()
    found = list(families().values())
    if as_json:
        rows = [
            {
                "family": one.name,
                "title": one.title,
                "description": one.description,
                "model_types": list(one.model_types),
                "examples": list(one.examples),
                "backends": list(BACKENDS),
                "limits": {name: list(one.limits.get(name, ())) for name in BACKENDS},
            }
            for one in found
        ]
        print_json({"families": rows, "shipped": ["demo"] if demo else []})
        return
    print_table(
        ["family", "models", "examples", "backend", "limits"],
        [
            (
                one.name,
                one.title,
                "\n".join(one.examples),
                "\n".join(BACKENDS),
                "\n".join(limit for name in BACKENDS for limit in one.limits.get(name, ())) or "none",
            )
            for one in found
        ],
    )
    if demo:
        note("Ships with edgellm: demo, a tiny model to try things with (edgellm build demo).")

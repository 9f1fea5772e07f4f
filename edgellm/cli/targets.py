"""`edgellm targets`."""

from __future__ import annotations

from contextlib import suppress

import click

from edgellm.cli.output import json_option, print_json, print_table


@click.command()
@json_option
def targets(as_json: bool) -> None:
    """List the targets: for which devices (and which of them are here), by which backends, and which can be
    built here and now.
    """
    from edgellm.adapters import list_adapters
    from edgellm.errors import UnsupportedError
    from edgellm.targets import fitting_target, load_targets, missing_for, native_target

    native = None
    with suppress(UnsupportedError):  # a processor that is no target: the list is useful even so
        native = native_target().name
    here: dict[str, list[str]] = {}
    for adapter in list_adapters(cuda=True):
        name, _, options = (fitting_target(adapter) or "").partition(" ")
        here.setdefault(name, []).append(f"{adapter} with {options}" if options else str(adapter))
    rows = []
    for target in load_targets().values():
        missing = missing_for(target)
        rows.append(
            {
                "target": target.name,
                "title": target.title,
                "devices": target.devices,
                "native": target.name == native,
                "adapters": here.get(target.name, []),
                "default_quant": target.default_quant,
                "backends": [{"name": one.name, "quants": list(one.quants)} for one in target.backends],
                "buildable": missing is None,
                "missing": missing,
            }
        )
    if as_json:
        print_json(rows)
        return
    print_table(
        ["target", "devices", "default", "backends and quantizations", "can be built here"],
        [
            (
                target.name + (" (native)" if target.name == native else ""),
                "\n".join([target.devices, *(f"here: {one}" for one in here.get(target.name, []))]),
                target.default_quant,
                "\n".join(f"{one.name}: {', '.join(one.quants)}" for one in target.backends),
                "no: " + missing if (missing := missing_for(target)) else "yes",
            )
            for target in load_targets().values()
        ],
    )

"""`edgellm package`."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from edgellm.cli.output import json_option, note, print_facts, print_json, progress_bars


@click.group()
def package() -> None:
    """Make of a bundle what runs on a device: for browsers, a static site."""


@package.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--out", "-o", required=True, type=click.Path(path_type=Path), help="Directory of the site.")
@click.option("--name", help="What the page calls the model.  [default: the bundle's name]")
@click.option("--title", help="The page's title.  [default: the name]")
@click.option("--force", is_flag=True, help="Replace another site that stands at --out.")
@click.option("--serve", is_flag=True, help="Serve the site on 127.0.0.1 until Ctrl-C.")
@click.option(
    "--port",
    default=8080,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="For --serve; 0 = any free.",
)
@json_option
def web(
    bundle: Path, out: Path, name: str | None, title: str | None, force: bool, serve: bool, port: int,
    as_json: bool,
) -> None:  # fmt: skip
    """Write BUNDLE and a chat page as a static site.

    The site needs WebGPU in the browser, no code on a server, and no network beyond its own origin. BUNDLE is
    one that was built with --target webgpu. The same bundle and options give the same bytes.
    """
    from edgellm.package.web import package_web
    from edgellm.units import bytes_text

    with progress_bars({"copy": "Copying"}, quiet=as_json) as report:
        made = package_web(bundle, out, name=name, title=title, force=force, on_progress=report)
    url = None
    if serve:
        from edgellm.package.serve import SiteServer, serve_forever

        server = SiteServer(made.path, made.site, port)
        url = server.url
    if as_json:
        print_json(
            {
                "site": str(made.path),
                "version": made.site.version,
                "files": len(made.site.files) + 1,
                "page_bytes": made.page_bytes,
                "model_bytes": made.model_bytes,
                "unchanged": made.unchanged,
                "url": url,
            }
        )
    else:
        largest = max(made.site.files, key=lambda one: one.bytes)
        print_facts(
            [
                ("site", f"{made.path}{' (unchanged)' if made.unchanged else ''}"),
                ("page", f"{bytes_text(made.page_bytes)} with its runtime"),
                ("model", f"{bytes_text(made.model_bytes)} in {len(made.site.model)} files"),
                ("largest", f"{largest.path}, {bytes_text(largest.bytes)}"),
            ]
        )
        if url:
            note(f"Open {url}  (Ctrl-C ends)")
        else:
            again = f"{shlex.quote(str(bundle))} --out {shlex.quote(str(out))}"
            note(f"Try it: edgellm package web {again} --serve")
            note("To publish, copy the directory to any web server with https; docs/web.md tells more")
    if serve:
        serve_forever(server)

"""`edgellm package`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from edgellm.cli.output import json_option, note, print_facts, print_json, progress_bars

if TYPE_CHECKING:
    from edgellm.package.project import AppProject


@click.group()
def package() -> None:
    """Make of a bundle what runs on a device: a static site for browsers, or an app for phones."""


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


@package.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--out", "-o", required=True, type=click.Path(path_type=Path), help="Directory of the project.")
@click.option("--id", help="Application id.  [default: com.example. and the bundle's name]")
@click.option("--name", help="What launchers show.  [default: the bundle's name]")
@click.option("--app-version", default="1.0.0", show_default=True, help="One to three numbers.")
@click.option("--icon", type=click.Path(path_type=Path), help="A square PNG of 192 pixels or more.")
@click.option(
    "--weights",
    type=click.Choice(["assets", "download", "push"]),
    help="Where the app gets the bundle: with it, from --url, or by adb from a computer.  [default: with it "
    "up to 150 MB, else from --url if given, else from a computer]",
)
@click.option("--url", help="https address of the bundle's directory, for --weights download.")
@click.option("--apk", is_flag=True, help="Also build a signed APK here, without Gradle or an NDK.")
@click.option(
    "--keystore", type=click.Path(path_type=Path), help="Sign with this key instead of one for tries."
)
@click.option("--key-alias", help="Which key of --keystore.  [default: the only one]")
@click.option("--force", is_flag=True, help="Replace another project that stands at --out.")
@json_option
def android(
    bundle: Path, out: Path, id: str | None, name: str | None, app_version: str, icon: Path | None,
    weights: Literal["assets", "download", "push"] | None, url: str | None, apk: bool, keystore: Path | None,
    key_alias: str | None, force: bool, as_json: bool,
) -> None:  # fmt: skip
    """Write BUNDLE and a chat app as a project for Android Studio.

    BUNDLE is one that was built with --target adreno or mali. The same bundle and options give the same
    bytes. --keystore takes its password from the variable EDGELLM_KEYSTORE_PASSWORD.
    """
    from edgellm.errors import UsageError
    from edgellm.package.android import PUSH_SCRIPT, package_android
    from edgellm.units import bytes_text

    if (keystore or key_alias) and not (apk and keystore):
        raise UsageError("--keystore goes with --apk, and --key-alias with --keystore")
    signing = None
    if apk:
        from edgellm.package.apk_key import debug_key, given_key
        from edgellm.package.apk_tools import find_tools

        tools = find_tools()  # before anything is written
        signing = tools, given_key(keystore, key_alias) if keystore else debug_key(tools)
    with progress_bars({"copy": "Copying"}, quiet=as_json) as report:
        made = package_android(
            bundle, out, id=id, name=name, version=app_version, icon=icon, weights=weights, url=url,
            force=force, on_progress=report,
        )  # fmt: skip
    built = None
    if signing:
        from edgellm.package.apk import build_apk

        built = build_apk(made, *signing)
    if as_json:
        print_json(
            {
                **_values(made),
                "weights": made.weights,
                "apk": None
                if built is None
                else {
                    "path": str(built.path),
                    "bytes": built.bytes,
                    "library_bytes": built.library_bytes,
                    "dex_bytes": built.dex_bytes,
                    "seconds": round(built.seconds, 2),
                },
            }
        )
        return
    where = {"assets": "in the app", "download": f"downloaded from {url}", "push": f"copied by {PUSH_SCRIPT}"}
    facts = _facts(made, where[made.weights])
    if built:
        code = f"C {bytes_text(built.library_bytes)}, Java {bytes_text(built.dex_bytes)}"
        facts.append(("apk", f"{built.path}, {bytes_text(built.bytes)} ({code}), in {built.seconds:.1f} s"))
    print_facts(facts)
    if built:
        note(f"Install it: adb install {shlex.quote(str(built.path))}")
        if keystore is None:
            note("It is signed with a key for tries; stores want one of yours (--keystore)")
    else:
        note(f"Open {made.path} in Android Studio; docs/android.md tells more")
    if made.weights == "push":
        script = shlex.quote(str(made.path / PUSH_SCRIPT))
        note(f"Then copy the model to the phone: {script} {shlex.quote(str(bundle))}")


@package.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--out", "-o", required=True, type=click.Path(path_type=Path), help="Directory of the project.")
@click.option("--id", help="Bundle identifier.  [default: com.example. and the bundle's name]")
@click.option("--name", help="What the home screen shows.  [default: the bundle's name]")
@click.option("--app-version", default="1.0.0", show_default=True, help="One to three numbers.")
@click.option("--icon", type=click.Path(path_type=Path), help="A PNG, 1024 x 1024, without transparency.")
@click.option("--team", help="Who signs the app: the ten characters of a team at Apple.")
@click.option("--force", is_flag=True, help="Replace another project that stands at --out.")
@json_option
def ios(
    bundle: Path, out: Path, id: str | None, name: str | None, app_version: str, icon: Path | None,
    team: str | None, force: bool, as_json: bool,
) -> None:  # fmt: skip
    """Write BUNDLE and a chat app as sources for Xcode.

    BUNDLE is one that was built with --target apple-iphone. The same bundle and options give the same bytes.
    The app is linked and signed on a Mac; README.md in --out has the two commands.
    """
    from edgellm.package.ios import STORE_BYTES, package_ios
    from edgellm.units import bytes_text

    with progress_bars({"copy": "Copying"}, quiet=as_json) as report:
        made = package_ios(
            bundle, out, id=id, name=name, version=app_version, icon=icon, team=team, force=force,
            on_progress=report,
        )  # fmt: skip
    if as_json:
        print_json({**_values(made), "team": made.team})
        return
    print_facts(_facts(made, "in the app"))
    if sum(made.bundle_bytes.values()) > STORE_BYTES:
        note(f"Apple's store takes apps of up to {bytes_text(STORE_BYTES)}; this one is larger")
    note(f"Link and sign it on a Mac: {made.path / 'README.md'} has the two commands")


def _values(made: AppProject) -> dict[str, Any]:
    """What --json says of any app's project."""
    return {
        "project": str(made.path),
        "id": made.app.id,
        "name": made.app.name,
        "version": str(made.app.version),
        "files": len(made.project.files) + 1,
        "source_bytes": made.source_bytes,
        "bundle_bytes": made.bundle_bytes,
        "memory_bytes": made.memory_bytes,
        "unchanged": made.unchanged,
    }


def _facts(made: AppProject, where: str) -> list[tuple[str, str]]:
    """What people are told of it; `where` its model is."""
    from edgellm.units import bytes_text

    parts = ", ".join(f"{key} {bytes_text(size)}" for key, size in made.bundle_bytes.items())
    return [
        ("project", f"{made.path}{' (unchanged)' if made.unchanged else ''}"),
        ("app", f"{made.app.name} {made.app.version}, {made.app.id}"),
        ("model", f"{parts}; {where}"),
        ("code", bytes_text(made.source_bytes)),
        ("memory", f"{bytes_text(made.memory_bytes)} for one conversation of the whole context"),
    ]

"""`edgellm package ios`: a bundle, the Swift package and a chat app as sources for a Mac.

App/                 the sample app of ios/App with project.yml, from which XcodeGen makes Chat.xcodeproj
App/Model/           the bundle, and chat.json, which travel in the app as they are
EdgeLLM/             the Swift package of ios/
native/              the C core
edgellm-app.json     every other file with its size and SHA-256
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from edgellm.errors import EdgeLLMError, UsageError
from edgellm.package import app as apps
from edgellm.package.app import App
from edgellm.package.chat_format import compile_chat_format
from edgellm.package.folder import Report
from edgellm.package.project import AppProject, write_project
from edgellm.package.sources import read_sources
from edgellm.resources import data_dir

TARGETS = ("apple-iphone",)
PROGRAMS = ("metal-fp16", "metal-fp32")
MODEL_FOLDER = "App/Model"
BUNDLE_FOLDER = f"{MODEL_FOLDER}/bundle"
PROJECT_FILE = "App/project.yml"
ICON_SIDE = 1024
"""Xcode makes all sizes of one icon of this size."""
STORE_BYTES = 4_000_000_000
"""What an app in Apple's store may have, unpacked."""
_XCODE = ("Chat.xcodeproj", "xcuserdata", "DerivedData", "Package.resolved")
MADE = (*_XCODE, "build", ".build", ".swiftpm", ".DS_Store")
"""What XcodeGen, Xcode and the Finder put into a project."""
_PACKAGE = ("Package.swift", "Sources", "Tests")
_NATIVE = ("Package.swift", "include", "src")
_ICON_FOLDER = "App/Assets.xcassets/AppIcon.appiconset"
_ICON_FILE = "AppIcon.png"


@dataclass(frozen=True)
class IosProject(AppProject):
    """A written project for Xcode."""

    team: str | None


def package_ios(
    bundle: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    id: str | None = None,
    name: str | None = None,
    version: str = "1.0.0",
    icon: Path | None = None,
    team: str | None = None,
    force: bool = False,
    on_progress: Report | None = None,
) -> IosProject:
    """Write the sources of an app with a bundle to `out`; they appear there when they are whole.

    Args:
        id: the bundle identifier; by default com.example and the bundle's name. name: what the home screen
            shows. version: one to three numbers.
        icon: a PNG of 1024 x 1024 pixels without transparency.
        team: the ten characters by which Apple knows who signs the app.
        force: replace another project that stands at `out`.
        on_progress: called with ("copy", bytes copied, bytes in all).

    Raises:
        UnsupportedError: the bundle is for something else. UsageError: an option is wrong.
        BundleError: it is damaged. EdgeLLMError: `out` cannot be written.
    """
    opened = apps.open_bundle(Path(bundle), system="iOS", targets=TARGETS, programs=PROGRAMS)
    app = apps.describe(opened, id=id, name=name, version=version, icon=icon, extra="-", side=ICON_SIDE)
    _check(app, icon, team)
    texts = shipped_sources()
    texts[PROJECT_FILE] = _settings(texts[PROJECT_FILE].decode(), app, team).encode()
    texts[f"{MODEL_FOLDER}/chat.json"] = compile_chat_format(opened).encode()
    if app.icon is not None:
        texts[f"{_ICON_FOLDER}/{_ICON_FILE}"] = app.icon.data
        texts[f"{_ICON_FOLDER}/Contents.json"] = _with_icon(texts[f"{_ICON_FOLDER}/Contents.json"])
    written = write_project(
        out,
        app,
        opened,
        texts,
        system="ios",
        bundle_folder=BUNDLE_FOLDER,
        made=MADE,
        force=force,
        on_progress=on_progress,
    )
    return IosProject(**vars(written), team=team)


def shipped_sources() -> dict[str, bytes]:
    """The files that every project has, by path."""
    ios, native = data_dir("ios"), data_dir("native")
    if not (ios / "Package.swift").is_file():
        raise EdgeLLMError("the sources of the iOS app are not there; install edgellm from its wheel")
    found = {f"EdgeLLM/{path}": data for path, data in read_sources(ios, _PACKAGE, MADE).items()}
    found |= read_sources(ios, ("App", "README.md"), MADE)
    found |= {f"native/{path}": data for path, data in read_sources(native, _NATIVE, MADE).items()}
    # What is left out by name must exist, and here it does not.
    manifest = found["native/Package.swift"].decode()
    found["native/Package.swift"] = _replace(
        r"exclude: \[[^]]*\] \+ metal", "exclude: metal", manifest
    ).encode()
    license = native.parent / "LICENSE"
    if license.is_file():
        found["LICENSE"] = license.read_bytes()
    return found


def _check(app: App, icon: Path | None, team: str | None) -> None:
    if "$" in app.name:  # XcodeGen and Xcode put variables in its place
        raise UsageError("--name must not have a $ in it")
    if app.icon is not None and (app.icon.side != ICON_SIDE or app.icon.alpha):
        raise UsageError(
            f"--icon {icon} must be a PNG of {ICON_SIDE} x {ICON_SIDE} pixels without transparency for iOS"
        )
    if team is not None and not re.fullmatch("[A-Z0-9]{10}", team):
        raise UsageError(f"--team {team} must be ten capital letters and digits, as in Apple's account pages")


def _settings(text: str, app: App, team: str | None) -> str:
    """project.yml with the app's settings in it; a string of JSON is one of YAML too."""
    values = {
        "PRODUCT_BUNDLE_IDENTIFIER": app.id,
        "APP_DISPLAY_NAME": app.name,
        "MARKETING_VERSION": str(app.version),
        "CURRENT_PROJECT_VERSION": str(app.version.code),
        "DEVELOPMENT_TEAM": team or "",
    }
    for key, value in values.items():
        quoted = json.dumps(value, ensure_ascii=False)
        text = _replace(rf'\b{key}: ".*"', f"{key}: {quoted}", text)
    return _replace(r"(?m)^    path: \.\.$", "    path: ../EdgeLLM", text)


def _replace(pattern: str, by: str, text: str) -> str:
    """`text` with what the pattern finds, once, replaced."""
    changed, count = re.subn(pattern, lambda found: by, text)
    if count != 1:
        raise EdgeLLMError(f"the sources of the iOS app have no {pattern}; install edgellm from its wheel")
    return changed


def _with_icon(data: bytes) -> bytes:
    """An asset catalogue's entry for the icon that names its file."""
    contents = json.loads(data)
    contents["images"][0]["filename"] = _ICON_FILE
    return json.dumps(contents, indent=2).encode() + b"\n"

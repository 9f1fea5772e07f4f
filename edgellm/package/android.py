"""`edgellm package android`: a bundle, the Android library and a chat app as a Gradle project.

app/, edgellm/, *.gradle.kts ...     the sample app and the library, as in android/ of edgellm; without the
                                     permission to use the network, unless the model is downloaded
native/                              the C core
app/src/main/assets/edgellm/         what the app knows of its model, and with --weights assets the bundle
push-model.sh                        with --weights push
edgellm-app.json                     every other file with its size and SHA-256
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit
from xml.sax.saxutils import escape

from edgellm.bundle.bundle import Bundle
from edgellm.bundle.manifest import MANIFEST_NAME
from edgellm.errors import EdgeLLMError, UsageError
from edgellm.package import app as apps
from edgellm.package.app import App
from edgellm.package.chat_format import compile_chat_format
from edgellm.package.folder import Report
from edgellm.package.project import AppProject, write_project
from edgellm.package.sources import is_made, read_sources
from edgellm.resources import data_dir
from edgellm.units import bytes_text

Weights = Literal["assets", "download", "push"]

TARGETS = ("adreno", "mali")
PROGRAMS = ("opencl-fp16", "opencl-fp32")
ASSETS = "app/src/main/assets/edgellm"
BUNDLE_FOLDER = f"{ASSETS}/bundle"
PUSH_SCRIPT = "push-model.sh"
SMALL_BYTES = 150_000_000
"""Bundles up to this size travel in the app by default: stores take apps of 200 MB."""
MAX_ASSETS_BYTES = 1_900_000_000
"""What an APK can hold: its size is a signed number of 32 bits in places."""
MIN_ICON_SIDE = 192
MADE = ("build", ".gradle", ".idea", ".kotlin", ".cxx", "local.properties", "*.iml")
"""What Gradle and Android Studio put into a project."""
_ICON = "app/src/main/res/mipmap-xxxhdpi/ic_launcher.png"
_DEFAULT_ICON = (
    "app/src/main/res/mipmap-anydpi-v26/ic_launcher.xml",
    "app/src/main/res/drawable/ic_foreground.xml",
)
_MANIFEST = "app/src/main/AndroidManifest.xml"
_NETWORK = re.compile(rb"    <!-- For a model that is downloaded.*?INTERNET\" />\n\n", re.DOTALL)
_ADDRESS = re.compile(
    r"https://(?:[a-z\d][\w.-]*|\[[\da-f:.]+\])(?::\d+)?(?:/(?:[\w.~!$&'()*+,;=:@/-]|%[\da-f]{2})*)?",
    re.ASCII | re.IGNORECASE,
)
"""The characters of RFC 3986 for an address without user, query and fragment."""
_NATIVE = ("CMakeLists.txt", "include", "src")


@dataclass(frozen=True)
class AndroidProject(AppProject):
    """A written project for Android Studio."""

    weights: Weights


def package_android(
    bundle: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    id: str | None = None,
    name: str | None = None,
    version: str = "1.0.0",
    icon: Path | None = None,
    weights: Weights | None = None,
    url: str | None = None,
    force: bool = False,
    on_progress: Report | None = None,
) -> AndroidProject:
    """Write the Gradle project of an app with a bundle to `out`; it appears there when it is whole.

    Args:
        id: the application id; by default com.example and the bundle's name. name: what launchers show.
        version: one to three numbers. icon: a square PNG.
        weights: where the app gets the bundle from; by default with it if it is small, else from `url` if
            that is given, else from a computer.
        url: https address of the bundle's directory, for weights = "download".
        force: replace another project that stands at `out`.
        on_progress: called with ("copy", bytes copied, bytes in all).

    Raises:
        UnsupportedError: the bundle is for something else. UsageError: an option is wrong.
        BundleError: it is damaged. EdgeLLMError: `out` cannot be written.
    """
    opened = apps.open_bundle(Path(bundle), system="Android", targets=TARGETS, programs=PROGRAMS)
    app = apps.describe(opened, id=id, name=name, version=version, icon=icon, extra="_", side=MIN_ICON_SIDE)
    chosen = _weights(opened, weights, url)
    texts = {**shipped_sources(), **_own_files(opened, app, chosen, url)}
    if chosen != "download":  # such an app asks for no permission at all
        texts[_MANIFEST] = _NETWORK.sub(b"", texts[_MANIFEST])
    if app.icon is not None:
        for path in _DEFAULT_ICON:
            del texts[path]
        texts[_ICON] = app.icon.data
    written = write_project(
        out,
        app,
        opened,
        texts,
        system="android",
        bundle_folder=BUNDLE_FOLDER if chosen == "assets" else None,
        made=MADE,
        programs=(PUSH_SCRIPT,),
        force=force,
        on_progress=on_progress,
    )
    return AndroidProject(**vars(written), weights=chosen)


def _weights(bundle: Bundle, weights: Weights | None, url: str | None) -> Weights:
    size = bundle.total_bytes
    if weights is None:
        weights = "download" if url else "assets" if size <= SMALL_BYTES else "push"
    if (weights == "download") != (url is not None):
        raise UsageError(
            "--weights download and --url belong together: --url is the https address of the bundle's "
            "directory"
        )
    if url is not None and not _is_address(url):
        raise UsageError(
            f"--url {url!r} must be https://HOST/PATH, the address of the bundle's directory: without user, "
            "query and fragment, and with %20 for a space"
        )
    if weights == "assets" and size > MAX_ASSETS_BYTES:
        raise EdgeLLMError(
            f"the bundle has {bytes_text(size)} and an app holds {bytes_text(MAX_ASSETS_BYTES)} at most: use "
            "--weights download --url ..., or --weights push"
        )
    return weights


def _is_address(url: str) -> bool:
    """Whether an app can download a directory's files from there."""
    if _ADDRESS.fullmatch(url) is None:
        return False
    try:
        return urlsplit(url).port != 0
    except ValueError:  # no such port, or no such IPv6 address
        return False


def shipped_sources() -> dict[str, bytes]:
    """The files that every project has, by path."""
    android, native = data_dir("android"), data_dir("native")
    if not (android / "settings.gradle.kts").is_file():
        raise EdgeLLMError("the sources of the Android app are not there; install edgellm from its wheel")
    found = {f"native/{path}": data for path, data in read_sources(native, _NATIVE, MADE).items()}
    names = sorted(entry.name for entry in android.iterdir() if not is_made(entry.name, MADE))
    found |= read_sources(android, names, MADE)
    license = native.parent / "LICENSE"
    if license.is_file():
        found["LICENSE"] = license.read_bytes()
    return found


def _own_files(bundle: Bundle, app: App, weights: Weights, url: str | None) -> dict[str, bytes]:
    """The files that know the app and its model."""
    files = {
        "app.properties": _properties(
            {"id": app.id, "versionName": str(app.version), "versionCode": str(app.version.code)}
        ),
        "app/src/main/res/values/app.xml": _resource(app.name),
        f"{ASSETS}/model.properties": _properties(_model(bundle, weights, url)),
        f"{ASSETS}/files.txt": listing(bundle),
        f"{ASSETS}/chat.json": compile_chat_format(bundle).encode(),
    }
    if weights == "push":
        files[PUSH_SCRIPT] = _push_script(app.id, bundle).encode()
    return files


def _model(bundle: Bundle, weights: Weights, url: str | None) -> dict[str, str]:
    """What PackagedModel.java reads."""
    manifest = bundle.manifest
    about = {
        "name": manifest.source.name,
        "quant": manifest.quant,
        "weights": weights.upper(),
        "context": str(manifest.context),
        "weight_bytes": str(manifest.memory.weight_bytes),
        "bytes_per_token": str(manifest.memory.kv_bytes_per_token),
        "runtime_bytes": str(manifest.memory.runtime_bytes),
    }
    return about if url is None else {**about, "url": url}


def _properties(values: dict[str, str]) -> bytes:
    """As java.util.Properties reads them through UTF-8; no value has line ends or begins with a space."""
    lines = [f"{key}={value.replace(chr(92), chr(92) * 2)}\n" for key, value in values.items()]
    return ("# Written by edgellm package android.\n" + "".join(lines)).encode()


def _resource(name: str) -> bytes:
    """The app's name as an Android resource; quotes, backslashes and a leading @ or ? mean something."""
    text = name.replace("\\", "\\\\").replace("'", "\\'").replace('"', '\\"')
    text = f"\\{text}" if text[0] in "@?" else text
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<resources>\n'
        f'    <string name="app_name" translatable="false">{escape(text)}</string>\n</resources>\n'
    ).encode()


def listing(bundle: Bundle) -> bytes:
    """What BundleFiles.java reads: SHA-256, bytes and path of each file."""
    manifest = (bundle.path / MANIFEST_NAME).read_bytes()
    lines = [f"{sha256(manifest).hexdigest()} {len(manifest)} {MANIFEST_NAME}"]
    lines += [f"{entry.sha256} {entry.bytes} {entry.path}" for entry in bundle.manifest.files]
    return ("\n".join(lines) + "\n").encode()


def _push_script(id: str, bundle: Bundle) -> str:
    place = f"/sdcard/Android/data/{id}/files/bundle"
    return f"""#!/bin/sh
# Copies the model to the phone that adb sees, for the app there. Usage: {PUSH_SCRIPT} BUNDLE
# Needs {bytes_text(bundle.total_bytes)} there. The app compares every file with its SHA-256 when it starts.
set -eu
if [ $# -ne 1 ] || [ ! -f "$1/{MANIFEST_NAME}" ]; then
    echo "usage: $0 BUNDLE, the directory that edgellm build wrote" >&2
    exit 2
fi
if ! adb shell pm path {id} | grep -q ^package:; then
    echo "$0: {id} is not on the phone that adb sees: install the app first" >&2
    exit 1
fi
adb shell "rm -rf {place} && mkdir -p {place}"
adb push "$1/." {place}/
echo "Done: start the app."
"""

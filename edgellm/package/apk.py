"""`edgellm package android --apk`: an APK of a written project, without Gradle, an SDK or an NDK.

The C core is compiled by zig, resources by aapt2, Java by javac and d8 or dx, and apksigner signs. The
Kotlin API of the library is left out: the sample app does not use it.
"""

from __future__ import annotations

import shutil
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgellm.errors import EdgeLLMError
from edgellm.package.android import ASSETS, AndroidProject
from edgellm.package.apk_key import Key
from edgellm.package.apk_tools import SHORT_RUN, Tools, call
from edgellm.package.apk_zip import PAGE_BYTES, ApkZip, data_offset
from edgellm.package.native_build import LIBRARY_NAME, build_android_library

MIN_SDK = 26
TARGET_SDK = 36
LIBRARY_PATH = f"lib/arm64-v8a/{LIBRARY_NAME}"
MODULES = ("edgellm", "app")
_ANDROID = "http://schemas.android.com/apk/res/android"
# Desugaring, which dx cannot do, is not needed by what this level of Java compiles to without lambdas.
_JAVA = "8"


@dataclass(frozen=True)
class Apk:
    """A signed APK. Sizes are in bytes."""

    path: Path
    bytes: int
    library_bytes: int
    dex_bytes: int
    seconds: float


def build_apk(
    made: AndroidProject, tools: Tools, key: Key, on_step: Callable[[str], None] | None = None
) -> Apk:
    """Build, align and sign an APK of a project, into its folder `build`. The same project and key give the
    same bytes.

    Args:
        on_step: called with the name of what is done next.

    Raises:
        EdgeLLMError: a tool failed; has its words.
    """
    start = time.monotonic()
    step = on_step or (lambda name: None)
    out = made.path / "build" / f"{made.app.id}-{made.app.version}.apk"
    out.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".apk-", dir=out.parent) as folder:
        scratch = Path(folder)
        step("resources")
        resources = _resources(made, tools, scratch)
        step("Java")
        dex = _classes(made.path, tools, scratch)
        step("C")
        sources = sorted((made.path / "edgellm/src/main/cpp").glob("*.c"))
        library = build_android_library(scratch / "lib", sources, tools.jni_headers)
        step("signature")
        unsigned = scratch / "unsigned.apk"
        _pack(made.path, unsigned, resources, dex, library)
        signed = sign(unsigned, scratch / "signed.apk", tools, key)
        if data_offset(signed, LIBRARY_PATH) % PAGE_BYTES:
            raise EdgeLLMError("apksigner moved the native library off its page; install a newer apksigner")
        sizes = (signed.stat().st_size, library.stat().st_size, dex.stat().st_size)
        signed.replace(out)
    return Apk(out, *sizes, time.monotonic() - start)


def merged_manifest(project: Path, id: str) -> bytes:
    """The manifest that Gradle would merge: the app's, with what the library's adds.

    Libraries are stored as they are and loaded from the APK, as Gradle has it for these versions of Android.
    """
    ET.register_namespace("android", _ANDROID)
    library, app = (
        ET.parse(project / module / "src/main/AndroidManifest.xml").getroot() for module in MODULES
    )
    app.set("package", id)
    application = app.find("application")
    added = library.find("application")
    if application is None or added is None:
        raise EdgeLLMError(
            f"a manifest of {project} has no application; write the project again with --force"
        )
    application.set(f"{{{_ANDROID}}}extractNativeLibs", "false")
    application.extend(list(added))
    for child in library:
        if child.tag != "application":
            app.insert(0, child)
    merged: bytes = ET.tostring(app, encoding="utf-8", xml_declaration=True)
    return merged


def _resources(made: AndroidProject, tools: Tools, scratch: Path) -> Path:
    """Compile resources and manifest into a ZIP file, and write the class R."""
    compiled = scratch / "resources.zip"
    folder = made.path / "app/src/main/res"
    call([tools.aapt2, "compile", "--dir", folder, "-o", compiled], "compiling resources", scratch)
    manifest = scratch / "AndroidManifest.xml"
    manifest.write_bytes(merged_manifest(made.path, made.app.id))
    linked = scratch / "linked.apk"
    call(
        [
            tools.aapt2, "link", "-I", tools.android_jar, "--manifest", manifest, "--java", scratch / "java",
            "--custom-package", "org.edgellm.chat", "--min-sdk-version", str(MIN_SDK),
            "--target-sdk-version", str(TARGET_SDK), "--version-code", str(made.app.version.code),
            "--version-name", str(made.app.version), "--warn-manifest-validation", "-o", linked, compiled,
        ],
        "linking resources",
        scratch,
    )  # fmt: skip
    return linked


def _classes(project: Path, tools: Tools, scratch: Path) -> Path:
    sources = [
        file
        for folder in (*(project / module / "src/main/java" for module in MODULES), scratch / "java")
        for file in sorted(folder.rglob("*.java"))
    ]
    classes = scratch / "classes"
    call(
        [
            tools.javac, *(f"-J{flag}" for flag in SHORT_RUN), "-nowarn", "-Xlint:-options",
            "-encoding", "UTF-8", "-source", _JAVA, "-target", _JAVA,
            "-bootclasspath", tools.android_jar, "-d", classes, *sources,
        ],
        "compiling Java",
        scratch,
    )  # fmt: skip
    dex = scratch / "classes.dex"
    if tools.is_d8:
        jar = scratch / "classes.jar"
        shutil.make_archive(str(jar.with_suffix("")), "zip", classes)
        jar.with_suffix(".zip").rename(jar)
        level = ("--release", "--min-api", str(MIN_SDK), "--lib", tools.android_jar)
        arguments: tuple[str | Path, ...] = (*level, "--output", scratch, jar)
    else:
        arguments = (f"--min-sdk-version={MIN_SDK}", f"--output={dex}", classes)
    call([*tools.dexer, *arguments], "translating classes for Android", scratch)
    return dex


def _pack(project: Path, out: Path, resources: Path, dex: Path, library: Path) -> None:
    assets = project / ASSETS
    apk = ApkZip(out)
    try:
        apk.add_zip(resources)
        apk.add_file("classes.dex", dex)
        apk.add_file(LIBRARY_PATH, library, stored=True)
        for file in sorted(path for path in assets.rglob("*") if path.is_file()):
            name = f"assets/edgellm/{file.relative_to(assets).as_posix()}"
            apk.add_file(name, file, stored=file.suffix == ".bin")
    finally:
        apk.close()


def sign(apk: Path, signed: Path, tools: Tools, key: Key) -> Path:
    """Sign with the schemes 2 and 3: every Android that the app runs on checks those."""
    alias = [] if key.alias is None else ["--ks-key-alias", key.alias]
    variable = "EDGELLM_APKSIGNER_PASSWORD"
    call(
        [
            tools.apksigner, "sign", "--ks", key.keystore, *alias, "--ks-pass", f"env:{variable}",
            "--min-sdk-version", str(MIN_SDK), "--v1-signing-enabled", "false",
            "--v2-signing-enabled", "true", "--v3-signing-enabled", "true", "--v4-signing-enabled", "false",
            "--out", signed, apk,
        ],
        "signing",
        signed.parent,
        {variable: key.password},
    )  # fmt: skip
    return signed

"""What the tests of the Android part call: a JDK, the tools of an APK, and a Kotlin compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from edgellm.errors import MissingDependencyError
from edgellm.package.apk_tools import SHORT_RUN, Tools, find_tools
from tests.support import npm_packages, require

HERE = Path(__file__).parent
ANDROID = HERE.parents[1] / "android"
LIBRARY = ANDROID / "edgellm/src/main"
APP = ANDROID / "app/src/main"
_PATIENCE_S = 240


def sdk_environment() -> dict[str, str]:
    """The environment with the SDK of fetch-sdk.sh, where ANDROID_HOME names no other."""
    made = HERE / "sdk/usr/lib/android-sdk"
    environment = dict(os.environ)
    if made.is_dir():
        environment.setdefault("ANDROID_HOME", str(made))
    return environment


def tools() -> Tools:
    """What makes an APK; without it the test is skipped, or fails in CI."""
    require(module="ziglang", reason="compiles the C core for Android: pip install 'edgellm[tvm]'")
    try:
        return find_tools(sdk_environment())
    except MissingDependencyError as error:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(str(error))
        raise


def checker(program: str) -> str:
    """A program that only tests use."""
    require(program=program, reason=f"looks at an APK: apt install {program}")
    return str(shutil.which(program))


def run(*command: str | Path, given: str = "", environment: dict[str, str] | None = None) -> str:
    """Standard output of a command that succeeds."""
    done = subprocess.run(
        [str(part) for part in command], input=given, env=environment, capture_output=True, encoding="utf-8",
        timeout=_PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


def compile_java(tools: Tools, out: Path, *sources: Path, classpath: Path | None = None) -> Path:
    """Compile, warnings being errors, against API 23 alone, or with `classpath` against this JDK."""
    common = ["-Xlint:all,-options,-serial,-deprecation", "-Werror", "-encoding", "UTF-8"]
    level = ["-source", "8", "-target", "8"]
    against: list[str | Path] = ["-cp", classpath] if classpath else ["-bootclasspath", tools.android_jar]
    run(tools.javac, *(f"-J{flag}" for flag in SHORT_RUN), *common, *level, *against, "-d", out, *sources)
    return out


def kotlin() -> Path:
    """Folder of the Kotlin compiler's libraries."""
    npm_packages(HERE)
    return HERE / "node_modules/kotlin-compiler/lib"


def compile_kotlin(tools: Tools, out: Path, *sources: Path, classpath: list[Path]) -> Path:
    """Compile with every warning an error, in the version of the language that the Android plugin brings."""
    lib = kotlin()
    compiler = [
        lib / f"{name}.jar"
        for name in (
            *("kotlin-compiler", "kotlin-stdlib", "kotlin-script-runtime", "kotlin-reflect"),
            *("kotlinx-coroutines-core-jvm", "annotations-13.0"),
        )
    ]
    run(
        *(Path(tools.javac).with_name("java"), *SHORT_RUN, "-Xmx1g", "-cp", joined(compiler)),
        *("org.jetbrains.kotlin.cli.jvm.K2JVMCompiler", "-kotlin-home", lib.parent, "-no-reflect", "-no-jdk"),
        *("-language-version", "2.2", "-Werror", "-jvm-target", "1.8", "-d", out),
        *("-classpath", joined([*classpath, lib / "kotlinx-coroutines-core-jvm.jar"]), *sources),
    )
    return out


def joined(paths: list[Path]) -> str:
    """A class path."""
    return os.pathsep.join(map(str, paths))

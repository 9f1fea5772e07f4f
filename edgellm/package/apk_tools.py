"""The tools that make an APK: found on PATH, in an Android SDK, or where Debian puts them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgellm.errors import EdgeLLMError, MissingDependencyError

DEBIAN_SDK = Path("/usr/lib/android-sdk")
SHORT_RUN = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
"""Have a JVM spend less on compiling itself than it would gain in a second or two."""
_PATIENCE_S = 300
_DEBIAN = {
    "javac": "default-jdk-headless",
    "keytool": "default-jdk-headless",
    "jni.h": "default-jdk-headless",
    "aapt2": "aapt",
    "apksigner": "apksigner",
    "d8 or dx": "dalvik-exchange",
    "android.jar": "libandroid-23-java",
}


@dataclass(frozen=True)
class Tools:
    """Commands without their arguments, and files."""

    javac: str
    keytool: str
    aapt2: str
    apksigner: str
    dexer: tuple[str, ...]
    is_d8: bool
    android_jar: Path
    jni_headers: tuple[Path, ...]


def find_tools(environment: Mapping[str, str] = os.environ) -> Tools:
    """All of them.

    Args:
        environment: PATH, JAVA_HOME, ANDROID_HOME and ANDROID_SDK_ROOT are looked at.

    Raises:
        MissingDependencyError: some are missing; names them all and how to install them.
    """
    sdks = [
        Path(environment[name]) for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT") if environment.get(name)
    ] + [DEBIAN_SDK]
    java = [Path(environment["JAVA_HOME"]) / "bin"] if environment.get("JAVA_HOME") else []
    build_tools = [folder for sdk in sdks for folder in _newest(sdk / "build-tools")]
    missing: list[str] = []

    def program(name: str, folders: Sequence[Path]) -> str:
        for folder in folders:
            if found := shutil.which(name, path=str(folder)):
                return found
        if found := shutil.which(name, path=environment.get("PATH", "")):
            return found
        missing.append(name)
        return name

    javac = program("javac", java)
    keytool = program("keytool", java)
    headers = _jni_headers(Path(javac))
    if headers is None:
        missing.append("jni.h")
    aapt2 = program("aapt2", build_tools)
    apksigner = program("apksigner", build_tools)
    dexer = _dexer(Path(javac).with_name("java"), build_tools, environment)
    if dexer is None:
        missing.append("d8 or dx")
    jar = next((jar for sdk in sdks for jar in _android_jars(sdk)), None)
    if jar is None:
        missing.append("android.jar")
    if missing or dexer is None or jar is None or headers is None:
        raise MissingDependencyError(_how_to_install(missing))
    return Tools(javac, keytool, aapt2, apksigner, *dexer, jar, headers)


def call(
    command: Sequence[str | Path], what: str, cwd: Path, environment: Mapping[str, str] | None = None
) -> str:
    """Run a tool; its standard output.

    Args:
        what: what it does, for messages. environment: more variables.

    Raises:
        EdgeLLMError: it failed or took too long; has its last words.
    """
    name = Path(command[0]).name
    try:
        done = subprocess.run(
            [str(part) for part in command], cwd=cwd, env={**os.environ, **(environment or {})}, text=True,
            capture_output=True, stdin=subprocess.DEVNULL, timeout=_PATIENCE_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise EdgeLLMError(f"{what}: {name} took more than {_PATIENCE_S} s; try again") from None
    except OSError as error:
        raise EdgeLLMError(f"{what}: {name} cannot be run ({error.strerror}); install it again") from None
    if done.returncode:
        said = (done.stderr.strip() + "\n" + done.stdout.strip()).strip() or f"exit status {done.returncode}"
        raise EdgeLLMError(f"{what}: {name} failed: {said[-1500:]}")
    return done.stdout


def _how_to_install(missing: Sequence[str]) -> str:
    packages = sorted({_DEBIAN[name] for name in missing})
    old = [name for name in packages if name in ("dalvik-exchange", "libandroid-23-java")]
    note = f" ({' and '.join(old)}: of Debian 11, see docs/android.md)" if old else ""
    return (
        f"--apk needs {', '.join(missing)}: on Debian and Ubuntu apt install {' '.join(packages)}{note}; "
        "elsewhere install a JDK and an Android SDK with build-tools and a platform, and set ANDROID_HOME"
    )


def _newest(folder: Path, pattern: str = "*") -> list[Path]:
    """Folders with versions as names, the newest first."""
    return sorted(folder.glob(pattern), key=_version, reverse=True)


def _version(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"[0-9]+", path.name)]


def _android_jars(sdk: Path) -> list[Path]:
    folders = _newest(sdk / "platforms", "android-*")
    return [folder / "android.jar" for folder in folders if (folder / "android.jar").is_file()]


def _dexer(
    java: Path, build_tools: Sequence[Path], environment: Mapping[str, str]
) -> tuple[tuple[str, ...], bool] | None:
    """The command of d8, or of dx, its predecessor, and whether it is d8."""

    def run(jar: Path, *more: str) -> tuple[str, ...]:
        return (str(java), *SHORT_RUN, "-Xmx1g", "-cp", str(jar), *more)

    looks: list[tuple[str, Callable[[Path], tuple[str, ...]], bool]] = [
        ("lib/d8.jar", lambda jar: run(jar, "com.android.tools.r8.D8"), True),
        ("lib/dx.jar", lambda jar: run(jar, "com.android.dx.command.Main", "--dex"), False),
    ]
    for relative, command, is_d8 in looks:
        for folder in build_tools:
            if (folder / relative).is_file():
                return command(folder / relative), is_d8
    path = environment.get("PATH", "")
    if found := shutil.which("d8", path=path):
        return (found,), True
    for name in ("dalvik-exchange", "dx"):
        if found := shutil.which(name, path=path):
            return (found, "--dex"), False
    return None


def _jni_headers(javac: Path) -> tuple[Path, ...] | None:
    """Folders of jni.h and jni_md.h, in the JDK that javac is of."""
    include = javac.resolve().parent.parent / "include"
    system = {"darwin": "darwin", "win32": "win32"}.get(sys.platform, "linux")
    found = (include, include / system)
    return found if (include / "jni.h").is_file() and (found[1] / "jni_md.h").is_file() else None

"""The C core for Apple's processors: every file compiles, also as CMake would do it on a Mac."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ios.software import APPLE, OBJECTIVE_C, sources
from tests.native.programs import FLAGS, NATIVE
from tests.support import require

MACH_O = bytes.fromhex("cffaedfe0c000001")
"""The 64-bit magic number and the processor type arm64 (Apple, mach-o/loader.h and mach/machine.h)."""
BUILD_VERSION = 0x32
PLATFORMS = {"macos": 1, "ios": 2}


@pytest.fixture(autouse=True)
def needs_zig() -> None:
    require(module="ziglang", reason="compiles for other systems: pip install 'edgellm[tvm]'")


def clang(system: str) -> list[str]:
    """Clang for a system of Apple's, with the headers of its C library, which ziglang has."""
    import ziglang

    library = Path(ziglang.__file__).parent / "lib"
    version = {"ios": "arm64-apple-ios16.0", "macos": "arm64-apple-macos13.0"}[system]
    folders = (library / "include", library / "libc" / "include" / "any-darwin-any")
    places = [part for folder in folders for part in ("-isystem", str(folder))]
    return [sys.executable, "-m", "ziglang", "clang", f"--target={version}", "-nostdinc", *places]


def command(system: str, *flags: str) -> list[str]:
    own = ("-DELL_METAL", f"-I{NATIVE / 'include'}", f"-I{NATIVE / 'src'}")
    return [*clang(system), *FLAGS, *own, *flags]


def platform_of(file: Path) -> int:
    """The platform that a Mach-O object says it is for."""
    data = file.read_bytes()
    assert data[:8] == MACH_O
    count, at = int.from_bytes(data[16:20], "little"), 32
    for _ in range(count):
        kind, size, platform = (int.from_bytes(data[at + i : at + i + 4], "little") for i in (0, 4, 8))
        if kind == BUILD_VERSION:
            return platform
        at += size
    raise AssertionError(f"{file} says no platform")


@pytest.mark.parametrize("system", ["ios", "macos"])
def test_every_file_compiles(system: str, tmp_path: Path) -> None:
    subprocess.run([*command(system), "-c", *sources(".c")], cwd=tmp_path, check=True)
    for counting in ("-fobjc-arc", "-fno-objc-arc"):
        called = command(system, "-Wno-pedantic", *OBJECTIVE_C, counting)
        subprocess.run([*called, "-c", *sources(".m")], cwd=tmp_path, check=True)
    objects = sorted(tmp_path.glob("*.o"))
    assert len(objects) == len(sources(".c")) + len(sources(".m"))
    assert {platform_of(file) for file in objects} == {PLATFORMS[system]}


def test_wrong_objective_c_does_not_compile(tmp_path: Path) -> None:
    """The declarations are strict: a selector that Metal has not, or a wrong argument, is an error."""
    text = (NATIVE / "src" / "metal.m").read_text()
    for old, new in (
        ("[commands waitUntilCompleted]", "[commands waitUntilScheduledNow]"),
        ("commandBufferWithUnretainedReferences]", "name]"),
        ("LET_GO(self->encoder);", "[self->encoder endEncoding];"),
    ):
        assert text.count(old)
        (tmp_path / "metal.m").write_text(text.replace(old, new, 1))
        called = command("ios", "-Wno-pedantic", *OBJECTIVE_C, "-fobjc-arc")
        done = subprocess.run(
            [*called, "-c", tmp_path / "metal.m", "-o", tmp_path / "metal.o"], capture_output=True, text=True
        )
        assert done.returncode != 0 and "error:" in done.stderr, new


def test_cmake_builds_the_metal_host_for_apple(tmp_path: Path) -> None:
    if not shutil.which("cmake"):
        pytest.skip("cmake is not installed")
    tools = {}
    for name in ("cc", "ar", "ranlib"):
        tools[name] = tmp_path / name
        called = clang("macos") if name == "cc" else [sys.executable, "-m", "ziglang", name]
        tools[name].write_text(f'#!/bin/sh\nexec {shlex.join(called)} "$@"\n')
        tools[name].chmod(0o755)
    settings = {
        "CMAKE_SYSTEM_NAME": "Darwin",
        "CMAKE_C_COMPILER": tools["cc"],
        "CMAKE_OBJC_COMPILER": tools["cc"],
        "CMAKE_AR": tools["ar"],
        "CMAKE_RANLIB": tools["ranlib"],
        "CMAKE_INSTALL_NAME_TOOL": "/bin/true",  # nothing is installed here
        "CMAKE_TRY_COMPILE_TARGET_TYPE": "STATIC_LIBRARY",
        "CMAKE_OBJC_FLAGS": f"-fblocks -Wno-nullability-completeness -I{APPLE}",
        "EDGELLM_PROGRAMS": "OFF",
    }
    given = [f"-D{name}={value}" for name, value in settings.items()]
    build = tmp_path / "build"
    for step in (["-S", str(NATIVE), "-B", str(build), *given], ["--build", str(build)]):
        done = subprocess.run(["cmake", *step], capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    listed = subprocess.run([tools["ar"], "t", build / "libedgellm.a"], capture_output=True, text=True)
    assert {"metal.m.o", "metal_kernels.m.o", "api.c.o"} <= set(listed.stdout.split())

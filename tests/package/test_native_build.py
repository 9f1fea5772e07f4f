"""The C core for Android and Linux, built with zig: what is in the files, and that what can run here runs."""

from __future__ import annotations

import ctypes
import re
import subprocess
from pathlib import Path

import pytest

from edgellm.errors import EdgeLLMError
from edgellm.package.native_build import (
    ANDROID_EXPORTS,
    PAGE_BYTES,
    build_android_library,
    build_android_program,
    build_linux_library,
    build_linux_program,
    native_dir,
)
from tests.package.elf import AARCH64, read_elf
from tests.support import require

# What looks like JNI code: exported names, a header of its own, functions of the C core and of Android.
GLUE_HEADER = '#define GLUE __attribute__((visibility("default")))\n'
GLUE = """
#include <errno.h>
#include "edgellm.h"
#include "glue.h"
GLUE int Java_version(void);
int hidden(void);
int hidden(void) { return errno; }
GLUE int Java_version(void) { return ell_version() * 100 + hidden(); }
"""


@pytest.fixture(scope="module", autouse=True)
def _zig() -> None:
    require(module="ziglang", reason="compiles native/: pip install 'edgellm[tvm]'")


@pytest.fixture(scope="module")
def glue(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], list[Path]]:
    folder = tmp_path_factory.mktemp("glue")
    (folder / "include").mkdir()
    (folder / "include" / "glue.h").write_text(GLUE_HEADER)
    (folder / "glue.c").write_text(GLUE)
    return [folder / "glue.c"], [folder / "include"]


def functions_of_the_interface() -> set[str]:
    return set(re.findall(r"\b(ell_\w+)\(", (native_dir() / "include" / "edgellm.h").read_text()))


def check_android(path: Path) -> None:
    elf = read_elf(path)
    assert elf.machine == AARCH64
    assert set(elf.alignments) == {PAGE_BYTES} and elf.congruent
    assert not elf.writable_code and not elf.executable_stack and not elf.text_relocations
    assert elf.relro and elf.bind_now
    assert set(elf.needed) <= {"libc.so", "libm.so", "libdl.so"}
    there = {name for library in elf.needed for name in ANDROID_EXPORTS[library].split()}
    assert elf.imported <= there | {"stdin", "stdout", "stderr"}


def test_the_library_for_android(glue: tuple[list[Path], list[Path]], tmp_path: Path) -> None:
    library = build_android_library(tmp_path, *glue)
    check_android(library)
    elf = read_elf(library)
    assert elf.soname == library.name == "libedgellm.so"
    assert elf.exported == functions_of_the_interface() | {"Java_version"}
    assert "dlopen" in elf.imported and "clGetPlatformIDs" not in elf.imported
    assert library.stat().st_size < 1 << 20
    assert build_android_library(tmp_path / "again", *glue).read_bytes() == library.read_bytes()


def test_the_program_for_android(tmp_path: Path) -> None:
    program = build_android_program(tmp_path)
    check_android(program)
    elf = read_elf(program)
    assert elf.interpreter == "/system/bin/linker64"
    assert {"__libc_init", "stdout", "printf"} <= elf.imported and not elf.exported & {"ell_open"}


def test_what_android_does_not_have_is_an_error(glue: tuple[list[Path], list[Path]], tmp_path: Path) -> None:
    source = tmp_path / "more.c"
    source.write_text('#include "glue.h"\nint qsort_r(int);\nGLUE int more(void) { return qsort_r(1); }\n')
    with pytest.raises(EdgeLLMError, match="qsort_r"):
        build_android_library(tmp_path, [source], glue[1])
    source.write_text("int more(void) { return }\n")
    with pytest.raises(EdgeLLMError, match=r"more\.c"):
        build_android_library(tmp_path, [source])


def test_the_library_for_linux(glue: tuple[list[Path], list[Path]], tmp_path: Path) -> None:
    library = ctypes.CDLL(str(build_linux_library(tmp_path, *glue)))
    assert library.Java_version() // 100 == library.ell_version()
    elf = read_elf(tmp_path / "libedgellm.so")
    assert elf.exported == functions_of_the_interface() | {"Java_version"}
    assert elf.relro and elf.bind_now and not elf.text_relocations and not elf.executable_stack


def test_the_program_for_linux(tmp_path: Path) -> None:
    done = subprocess.run([build_linux_program(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 2 and "no bundle was named" in done.stderr


def test_without_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgellm.package.native_build.data_dir", lambda name: tmp_path / name)
    with pytest.raises(EdgeLLMError, match="sources of the C core are not there"):
        build_android_library(tmp_path)

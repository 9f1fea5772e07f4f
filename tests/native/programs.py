"""Builds the programs of native/ with whatever C compiler is here."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.support import require

NATIVE = Path(__file__).parents[2] / "native"
FLAGS = (
    "-std=c11",
    "-O2",
    "-g",
    "-Wall",
    "-Wextra",
    "-Wpedantic",
    "-Wshadow",
    "-Werror",
    "-ffp-contract=off",
)


def zig(*arguments: str) -> list[str]:
    """A command of zig's C compiler."""
    return [sys.executable, "-m", "ziglang", "cc", *arguments]


def compiler() -> list[str]:
    """The system's C compiler, or zig's."""
    if found := shutil.which("cc"):
        return [found]
    require(module="ziglang", reason="compiles native/: pip install 'edgellm[tvm]', or install a C compiler")
    return zig()


def build_all(folder: Path, *flags: str, command: list[str] | None = None) -> dict[str, Path]:
    """Compile the programs of native/cli into `folder`, warnings being errors.

    Args:
        command: the compiler; None: any for this machine.

    Returns:
        The programs by name.
    """
    called = [*(command or compiler()), *FLAGS, *flags, f"-I{NATIVE / 'include'}", f"-I{NATIVE / 'src'}"]
    sources = sorted((NATIVE / "src").glob("*.c"))
    subprocess.run([*called, "-c", *sources], cwd=folder, check=True)
    objects = sorted(folder.glob("*.o"))
    programs = {}
    for source in sorted((NATIVE / "cli").glob("*.c")):
        program = folder / source.stem
        libraries = ["-lm", "-lpthread", "-ldl"]
        subprocess.run([*called, source, *objects, "-o", program, *libraries], check=True)
        programs[source.stem] = program
    return programs

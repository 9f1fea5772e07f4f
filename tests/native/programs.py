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


def build(folder: Path, name: str, *flags: str, command: list[str] | None = None) -> Path:
    """Compile a program of native/cli into `folder`, warnings being errors.

    Args:
        command: the compiler; None: any for this machine.
    """
    program = folder / name
    sources = sorted((NATIVE / "src").glob("*.c"))
    subprocess.run(
        [
            *(command or compiler()), *FLAGS, *flags, f"-I{NATIVE / 'include'}", f"-I{NATIVE / 'src'}",
            *map(str, sources), str(NATIVE / "cli" / f"{name}.c"), "-o", str(program),
            "-lm", "-lpthread", "-ldl",
        ],
        check=True,
    )  # fmt: skip
    return program

"""Front ends of compilers, which know the languages independently of who wrote the texts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
_CLANG = (sys.executable, "-m", "ziglang", "clang", "-cc1", "-fsyntax-only", "-Werror")


def check_opencl(text: str, *, half: bool) -> None:
    """Put texts in OpenCL C 1.2 through Clang's OpenCL front end, on a device with 16-bit floats or without.

    Raises:
        AssertionError: with what the compiler said.
    """
    extensions = "-all,+cl_khr_fp16" if half else "-all"
    language = ("-triple", "spir64", "-x", "cl", "-cl-std=CL1.2", f"-cl-ext={extensions}")
    _run([*_CLANG, *language, "-fdeclare-opencl-builtins", "-include", str(HERE / "opencl_types.h")], text)


def check_metal(text: str) -> None:
    """Put Metal texts through a C++ front end; the header here declares what Metal adds.

    Raises:
        AssertionError: with what the compiler said.
    """
    language = ("-triple", "arm64-apple-ios16.0", "-x", "c++", "-std=c++17", "-Wno-unknown-attributes")
    _run([*_CLANG, *language, f"-I{HERE}"], text)


def _run(command: list[str], text: str) -> None:
    command = [*command, "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[:3000]

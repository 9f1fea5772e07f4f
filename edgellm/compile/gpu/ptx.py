"""PTX of CUDA C texts: what NVIDIA's driver compiles for its GPU when it loads a program.

The compiler is Clang as it comes in the package ziglang, with a code generator for NVIDIA's GPUs on every
system. `cuda/device.h` says what of CUDA C the kernels' texts use. docs/decisions.md says why it is not
NVIDIA's compiler.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from edgellm.errors import EdgeLLMError

ARCHITECTURE = "sm_60"
"""The oldest GPUs with 16-bit arithmetic, of 2016. Drivers take PTX for this and for every later one."""
_HEADERS = Path(__file__).parent / "cuda"
_COMPILE = (
    "clang", "-cc1", "-triple", "nvptx64-nvidia-cuda", "-target-cpu", ARCHITECTURE,
    "-x", "cuda", "-fcuda-is-device", "-std=c++17", "-O3", "-ffp-contract=fast", "-Werror",
    "-I", str(_HEADERS), "-include", str(_HEADERS / "device.h"), "-S", "-o", "-", "-",
)  # fmt: skip
_SECONDS = 300
_ENTRY = re.compile(r"^\.visible \.entry (\w+)\((.*?)\)", re.MULTILINE | re.DOTALL)
_PARAMETER = re.compile(r"\.param \.[bus](32|64)\b")


def to_ptx(text: str, name: str, *, buffers: int, scalars: int) -> str:
    """PTX of a kernel's text.

    Args:
        name: of the kernel, for errors. buffers, scalars: how many of each it takes.

    Raises:
        EdgeLLMError: the compiler fails, or what it makes takes other arguments.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", "ziglang", *_COMPILE],
            input=text, capture_output=True, text=True, encoding="utf-8", timeout=_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EdgeLLMError(f"the compiler of ziglang cannot be run on the kernel {name} ({error})") from error
    if done.returncode:
        said = next(
            (line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip()[-300:]
        )
        raise EdgeLLMError(
            f"compiling the CUDA kernel {name} failed: {said}; is another version of ziglang installed than "
            "pip install 'edgellm[tvm]' takes?"
        )
    expected = {f"{name}_kernel": ["64"] * buffers + ["32"] * scalars}
    if entries(done.stdout) != expected:
        raise EdgeLLMError(f"the PTX of {name} takes {entries(done.stdout)} instead of {expected}")
    return done.stdout


def entries(ptx: str) -> dict[str, list[str]]:
    """Kernels in a PTX text: their parameters' bits, in order."""
    return {name: _PARAMETER.findall(parameters) for name, parameters in _ENTRY.findall(ptx)}

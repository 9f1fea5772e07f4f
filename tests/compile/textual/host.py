"""A host for Metal, OpenCL and CUDA texts without a device: a C++ compiler makes a library of them.

Slow, and only for tests: what it shows is that a text computes what it should, also in fp16, and that a plan
says all that a host needs.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgellm.backends.plan.launches import buffer_bytes, routine_of
from edgellm.backends.plan.weights import MappedWeights
from edgellm.compile.gpu import ptx
from edgellm.compile.plan.plan import Plan
from edgellm.compile.plan.sizes import evaluate

HERE = Path(__file__).parent
_CLANG = (
    sys.executable,
    "-m",
    "ziglang",
    "c++",
    "-std=c++17",
    f"-I{HERE}",
    "-Wno-unknown-attributes",
    "-Wno-ignored-attributes",
)
_CUDA = Path(ptx.__file__).parent / "cuda"
_START = {
    "metal": ["#include <metal_stdlib>"],
    "opencl": ['#include "opencl.h"'],
    "cuda": ['#include "run.h"', "namespace cuda {", '#include "cuda_text.h"', "}"],
}


class TextHost:
    """See `edgellm.backends.plan.host.Host`."""

    def __init__(
        self,
        plan: Plan,
        sources: Mapping[str, str],
        weights: MappedWeights,
        sizes: Mapping[str, int],
        work: Path,
    ) -> None:
        """Compile into the folder `work`."""
        self._plan = plan
        self.submitted = self.waited = 0.0
        self._buffers = {name: _aligned(size) for name, size in buffer_bytes(plan, sizes).items()}
        for name, size in plan.weights.items():
            self._buffers[name] = _aligned(size)
            self._buffers[name][:size] = weights[name]
        self._library = ctypes.CDLL(str(compile_texts(plan, sources, work)))

    def write(self, name: str, values: NDArray[Any]) -> None:
        """See `Host.write`."""
        data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        self._buffers[name][: len(data)] = data

    def run(
        self, inputs: Mapping[str, NDArray[Any]], sizes: Mapping[str, int], outputs: Mapping[str, int]
    ) -> dict[str, NDArray[np.float32]]:
        """See `Host.run`."""
        for name, values in inputs.items():
            self.write(name, values)
        for launch in self._plan.routines[routine_of(self._plan, sizes["n"])].launches:
            kernel = self._plan.kernel(launch.kernel)
            pointers = [self._buffers[name].ctypes.data for name in launch.arguments]
            self._library[f"run_{kernel.name}"](
                (ctypes.c_void_p * len(pointers))(*pointers),
                (ctypes.c_int32 * 16)(*(sizes[name] for name in kernel.scalars)),
                (ctypes.c_uint32 * 3)(*(evaluate(one, sizes) for one in kernel.grid)),
                (ctypes.c_uint32 * 3)(*kernel.threads),
            )
        # Launches end before they return, so nothing is waited for.
        self.submitted = time.perf_counter()
        return {name: self._buffers[name].view(np.float32)[:count].copy() for name, count in outputs.items()}

    def copy(self, pieces: Mapping[str, int], source: int, target: int) -> None:
        """See `Host.copy`."""
        for name, size in pieces.items():
            buffer = self._buffers[name]
            buffer[target * size : (target + 1) * size] = buffer[source * size : (source + 1) * size]

    def close(self) -> None:
        """See `Host.close`."""


def _aligned(size: int) -> NDArray[np.uint8]:
    """Zeros from a multiple of 64 bytes on: vectors are loaded whole."""
    size = -(-size // 16) * 16
    room = np.zeros(size + 64, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + size]


def compile_texts(plan: Plan, sources: Mapping[str, str], work: Path) -> Path:
    """A library made in `work`: a function for each kernel, run_NAME(buffers, scalars, grid, threads)."""
    lines = ["#define RUN", *_START[plan.language]]
    for name, text in sources.items():
        # OpenCL's (float4)(a, b, c, d) would be something else in C++.
        text = re.sub(r"\(((?:half|float|int|uint)[248])\)\(", r"\1(", text)
        (work / name).write_text(text)
        include = f'#include "{work / name}"'
        if plan.language == "cuda":
            # Each text has types of its own.
            include = f"namespace cuda::{Path(name).stem} {{\n{include}\n}}"
        lines.append(include)
    for kernel in plan.kernels:
        entry = f"cuda::{kernel.name}::{kernel.entry}" if plan.language == "cuda" else kernel.entry
        lines.append(
            f'extern "C" void run_{kernel.name}(void** b, int32_t* s, const uint* g, const uint* t) '
            f"{{ launch({entry}, b, s, g, t); }}"
        )
    (work / "program.cc").write_text("\n".join(lines) + "\n")
    library = work / "program.so"
    flags = (f"-I{_CUDA}", "-O1", "-ffp-contract=off", "-shared", "-fPIC")
    _run([*_CLANG, *flags, str(work / "program.cc"), str(HERE / "run.cc"), "-o", str(library)])
    return library


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[:3000]

"""NVIDIA's driver without a GPU: `driver.cc`, compiled with NVIDIA's own cuda.h, runs kernels as C++.

It shows that what edgellm tells the driver is what it should: which functions, of which types, in which
order, with memory that is there. Kernels compute what their texts say, in C++; that PTX says the same, only
a GPU can show.
"""

from __future__ import annotations

import ctypes
import importlib.util
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import pytest

from edgellm import cuda_driver
from edgellm.adapters import Adapter, cuda_adapters
from edgellm.compile.plan.codec import decode_plan
from edgellm.compile.plan.plan import PLAN_NAME
from tests.compile.textual.host import compile_texts
from tests.support import require

HOW = "pip install 'edgellm[test]'"
MEMORY = 1 << 30
_made: dict[tuple[str, ...], Path] = {}


def nvidia(part: str) -> Path:
    """Folder of one of NVIDIA's packages, such as cuda_runtime."""
    require(module="nvidia", reason=f"its compilers and headers judge CUDA kernels: {HOW}")
    require(module=f"nvidia.{part}", reason=f"its compilers and headers judge CUDA kernels: {HOW}")
    spec = importlib.util.find_spec(f"nvidia.{part}")
    assert spec is not None and spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations)))


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="edgellm-cuda-tests-")


@cache
def library() -> Path:
    """The driver's library, compiled once."""
    require(module="ziglang", reason="compiles the software driver: pip install 'edgellm[tvm]'")
    path = Path(_folder().name) / "software-cuda.so"
    source = Path(__file__).with_name("driver.cc")
    headers = nvidia("cuda_runtime") / "include"
    command = [
        sys.executable,
        "-m",
        "ziglang",
        "c++",
        "-std=c++17",
        "-O1",
        "-shared",
        "-fPIC",
        f"-I{headers}",
    ]
    done = subprocess.run(
        [*command, str(source), "-o", str(path)], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr[:3000]
    return path


class SoftwareCuda:
    """The driver in use, instead of one that this machine may have."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._library = ctypes.CDLL(str(library()))
        monkeypatch.setattr(cuda_driver, "LIBRARY", str(library()))
        cuda_driver.driver.cache_clear()
        self.set()
        self.lose(False)

    def use(self, folder: Path) -> None:
        """Know the kernels of a program, instead of those of another: what is loaded next is theirs."""
        plan = decode_plan((folder / PLAN_NAME).read_bytes(), str(folder))
        texts = {kernel.source: (folder / kernel.source).read_text() for kernel in plan.kernels}
        key = tuple(texts.values())
        if key not in _made:
            _made[key] = compile_texts(plan, texts, Path(tempfile.mkdtemp(dir=_folder().name)))
        assert self._library.software_use(str(_made[key]).encode())

    def adapter(self) -> Adapter:
        """Its only one."""
        [found] = cuda_adapters()
        return found

    def set(self, memory: int = MEMORY, capability: int = 8) -> None:
        """What it says of itself."""
        self._library.software_set(ctypes.c_size_t(memory), capability)

    def lose(self, yes: bool = True) -> None:
        """From now on nothing can be waited for."""
        self._library.software_lose(yes)

    def held(self) -> int:
        """Contexts, streams, modules and allocations that have not been given back."""
        return int(self._library.software_held())

"""NVIDIA's compilers, which need no GPU: NVRTC takes CUDA C, ptxas takes PTX."""

from __future__ import annotations

import ctypes
import os
import re
import stat
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from tests.backends.plan.cuda_software import nvidia

_HEAD_END = ".address_size 64\n"


def assemble(files: Sequence[Path], architecture: str, work: Path) -> dict[str, str]:
    """Machine code for one kind of GPU is made of PTX files, put together; what ptxas says of each kernel.

    Raises:
        AssertionError: it refuses one, or warns.
    """
    program = nvidia("cuda_nvcc") / "bin" / "ptxas"
    if not os.access(program, os.X_OK):
        # The package comes without the permission.
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    texts = [file.read_text() for file in files]
    heads = {text.partition(_HEAD_END)[0] for text in texts}
    assert len(heads) == 1
    whole = heads.pop() + _HEAD_END + "".join(text.partition(_HEAD_END)[2] for text in texts)
    (work / "whole.ptx").write_text(whole)
    command = [str(program), "-v", f"-arch={architecture}", "whole.ptx", "-o", "whole.cubin"]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=200, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0 and "warning" not in said.lower(), f"{architecture}: {said[:3000]}"
    parts = re.split(r"Compiling entry function '(\w+)_kernel'", said)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def registers(said: str) -> tuple[int, int]:
    """Of what ptxas says: registers of a thread, and bytes that it spills."""
    used = re.search(r"Used (\d+) registers", said)
    spilled = re.search(r"(\d+) bytes spill stores", said)
    assert used and spilled, said
    return int(used[1]), int(spilled[1])


@cache
def _nvrtc() -> ctypes.CDLL:
    [path] = (nvidia("cuda_nvrtc") / "lib").glob("libnvrtc.so.*")
    return ctypes.CDLL(str(path))


def compile_texts(texts: Mapping[str, str], architecture: str) -> None:
    """NVRTC makes PTX of texts, each in a namespace of its own name.

    It leaves the thread that calls it with another locale, in which files are ASCII: it gets its own thread.

    Raises:
        AssertionError: with what it says.
    """
    with ThreadPoolExecutor(1) as alone:
        alone.submit(_compile_texts, texts, architecture).result()


def _compile_texts(texts: Mapping[str, str], architecture: str) -> None:
    include = "#include <cuda_fp16.h>\n"
    parts = [f"namespace text_{name} {{\n{text.replace(include, '')}}}\n" for name, text in texts.items()]
    text = include + "".join(parts) if any(include in one for one in texts.values()) else "".join(parts)
    nvrtc, program = _nvrtc(), ctypes.c_void_p()
    headers = nvidia("cuda_runtime") / "include"
    options = [f"--gpu-architecture={architecture}", f"--include-path={headers}", "--std=c++17"]
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"text.cu", 0, None, None) == 0
    try:
        given = (ctypes.c_char_p * len(options))(*(one.encode() for one in options))
        status = nvrtc.nvrtcCompileProgram(program, len(options), given)
        size = ctypes.c_size_t()
        nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        nvrtc.nvrtcGetProgramLog(program, log)
        said = log.value.decode()
        said = "\n".join(line for line in said.splitlines() if "error" in line) or said
        assert status == 0, f"{architecture}: {said[:3000]}"
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))

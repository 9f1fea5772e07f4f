"""CUDA programs of every family, judged by NVIDIA's own compilers; no GPU is needed for that."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from tvm.tirx.script.builder import ir as T  # noqa: N812

from edgellm.bench import device_copy
from edgellm.compile.gpu.export import export
from edgellm.compile.gpu.kernel import KernelBuilder, store
from edgellm.compile.gpu.ptx import entries, to_ptx
from edgellm.compile.plan.assemble import assemble as assemble_plan
from edgellm.compile.plan.check import device_problem
from edgellm.compile.plan.codec import decode_plan
from edgellm.compile.plan.plan import PLAN_NAME, Buffer, Launch, Plan, Routine
from edgellm.errors import EdgeLLMError
from edgellm.targets import load_targets
from tests.backends.plan.models import program
from tests.compile.gpu.nvidia import assemble, compile_texts, registers
from tests.compile.textual.host import TextHost
from tests.support import require

FAMILIES = ["llama-biases", "mistral-sliding", "qwen2", "qwen3", "gemma3", "phi3-partial-rotary"]
PROGRAMS = ("cuda-fp16", "cuda-fp32")
GPUS = ("sm_60", "sm_75", "sm_86", "sm_90", "sm_120")
MOST_SPILLED = 64
"""Bytes of a thread; a kernel that keeps its sums in memory would spill far more."""


@pytest.fixture(autouse=True)
def _needs(needs_tvm: None) -> None:
    require(module="ziglang", reason="compiles CUDA kernels: pip install 'edgellm[tvm]'")


@cache
def family(name: str) -> Path:
    """Its programs, with int4 weights."""
    return program(name, "int4", PROGRAMS)


def plan_of(folder: Path) -> Plan:
    return decode_plan((folder / PLAN_NAME).read_bytes(), str(folder))


@pytest.mark.parametrize("one", PROGRAMS)
@pytest.mark.parametrize("name", FAMILIES)
def test_every_kernel_is_machine_code(name: str, one: str, tmp_path: Path) -> None:
    """For the oldest GPUs and new ones, and of one family for every generation."""
    folder = family(name) / one
    files = sorted(folder.glob("*.ptx"))
    assert {file.stem for file in files} == {kernel.name for kernel in plan_of(folder).kernels}
    for gpu in GPUS if name == "gemma3" else ("sm_60", "sm_90"):
        found = assemble(files, gpu, tmp_path)
        assert found.keys() == {file.stem for file in files}
        for kernel, said in found.items():
            used, spilled = registers(said)
            # A block has 65,536 registers, or it cannot start.
            assert used * 256 <= 65536 and spilled <= MOST_SPILLED, (kernel, gpu, said)


@pytest.mark.parametrize("one", PROGRAMS)
@pytest.mark.parametrize("name", FAMILIES)
def test_every_text_is_cuda_c(name: str, one: str) -> None:
    texts = {file.stem: file.read_text() for file in sorted((family(name) / one).glob("*.cu"))}
    for gpu in (
        ("compute_60", "compute_75", "compute_80", "compute_90") if name == "qwen2" else ("compute_70",)
    ):
        compile_texts(texts, gpu)


@pytest.mark.parametrize("name", FAMILIES)
def test_ptx_takes_what_the_plan_says(name: str) -> None:
    limits = load_targets()["nvidia-gpu"].device
    assert limits is not None
    for one in PROGRAMS:
        folder = family(name) / one
        plan = plan_of(folder)
        assert device_problem(plan, limits.kernels["cuda"].limits) is None
        assert ("fp16" in plan.needs) == (plan.arithmetic == "fp16")
        for kernel in plan.kernels:
            ptx = (folder / kernel.source).with_suffix(".ptx").read_text()
            assert entries(ptx) == {kernel.entry: ["64"] * len(kernel.access) + ["32"] * len(kernel.scalars)}
            shared = [int(size) for size in re.findall(r"\.shared \.align \d+ \.b8 \w+\[(\d+)\]", ptx)]
            assert sum(shared) <= kernel.shared_bytes
            assert ".target sm_60" in ptx and ".version 5.0" in ptx
            threads = np.prod(kernel.threads)
            assert f".maxntid {threads}" in ptx


def test_a_text_that_is_wrong_is_refused() -> None:
    text = (family("qwen2") / "cuda-fp32" / "norm.cu").read_text()
    with pytest.raises(EdgeLLMError, match=r"compiling the CUDA kernel norm failed: .*error"):
        to_ptx(text.replace("sqrtf(", "cbrtf("), "norm", buffers=3, scalars=0)
    with pytest.raises(EdgeLLMError, match="the PTX of norm takes"):
        to_ptx(text, "norm", buffers=2, scalars=1)
    with pytest.raises(AssertionError, match="error"):
        compile_texts({"norm": text.replace("sqrtf(", "squareroot(")}, "compute_70")


def test_the_copy_that_measures_bandwidth_is_machine_code(tmp_path: Path) -> None:
    text = device_copy._SOURCES["cuda"].format(threads=256, count=1 << 24, stride=1 << 22)
    (tmp_path / "copy.ptx").write_text(text)
    for gpu in GPUS:
        used, spilled = registers(assemble([tmp_path / "copy.ptx"], gpu, tmp_path)["copy"])
        assert used <= 32 and spilled == 0


def test_exponentials_are_exact_to_the_last_digits(tmp_path: Path) -> None:
    """Those of device.h, over the range that has results."""
    count = 4096
    with KernelBuilder("exponentials") as k:
        x, y = k.buffer("x", count, "float32"), k.buffer("y", count, "float32", "write")
        with k.launch((count,), (1,)) as ((at,), (_,)):
            store(y, at, T.exp(x[at]))
    source = export(k.kernel, "cuda")
    buffers = [Buffer("x", "input", "float32", (count,)), Buffer("y", "output", "float32", (count,))]
    routine = Routine(1, (Launch("exponentials", ("x", "y")),))
    plan = assemble_plan(
        [k.kernel], [source], [routine], buffers, {"n": 1}, language="cuda", arithmetic="fp32"
    )
    host = TextHost(plan, {"exponentials.cu": source.text}, {}, {"n": 1}, tmp_path)  # type: ignore[arg-type]
    values = np.linspace(-87, 88, count).astype(np.float32)
    found = host.run({"x": values}, {"n": 1}, {"y": count})["y"]
    np.testing.assert_allclose(found, np.exp(values.astype(np.float64)), rtol=3e-7)

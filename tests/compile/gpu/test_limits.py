"""Every family for every GPU target: texts and plans keep to the target's limits, and compilers take them.

Targets with the same limits share programs, and kernels that are equal share texts; each text is compiled
once. What a text says of its workgroup is read from the text, not from what the plan says.
"""

from __future__ import annotations

import re
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import pytest
from tvm_ffi import StructuralKey

from edgellm.bundle.model_config import ModelConfig
from edgellm.checkpoint import Checkpoint
from edgellm.compile.gpu import program
from edgellm.compile.gpu.export import Source, export
from edgellm.compile.gpu.graph import lower
from edgellm.compile.gpu.kernel import GpuKernel
from edgellm.compile.plan.check import device_problem
from edgellm.compile.plan.codec import decode_plan
from edgellm.compile.plan.limits import DeviceLimits
from edgellm.compile.plan.plan import PLAN_NAME, Plan
from edgellm.targets import load_targets
from tests.backends.plan.models import checkpoint
from tests.compile.gpu.runner import OpenClRunner, WgpuRunner, runner
from tests.compile.gpu.test_graph import LARGE
from tests.compile.textual.front_ends import check_metal, check_opencl
from tests.golden.cases import CONTEXT
from tests.support import require

FAMILIES = ["llama-biases", "mistral-sliding", "qwen2", "qwen3", "gemma3", "phi3-partial-rotary"]
DEVICES = {name: target.device for name, target in load_targets().items() if target.device is not None}


def _programs() -> dict[str, tuple[DeviceLimits, str]]:
    """Each that differs, by the name of the first target that has it."""
    found: dict[tuple[DeviceLimits, str], str] = {}
    for name, device in DEVICES.items():
        for one in device.programs:
            found.setdefault((device.limits, one), f"{name}:{one}")
    return {name: key for key, name in found.items()}


PROGRAMS = _programs()
_sources: dict[Any, Source] = {}
_compiled: set[str] = set()


def _export(kernel: GpuKernel, language: str) -> Source:
    """`export`, once for kernels that are equal."""
    key = (StructuralKey(kernel.function), kernel.name, kernel.sizes, language)
    if key not in _sources:
        _sources[key] = export(kernel, language)  # type: ignore[arg-type]
    return _sources[key]


@cache
def config(name: str) -> ModelConfig:
    with Checkpoint.open(checkpoint(name)) as opened:
        return opened.config


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_program_keeps_to_its_target(
    family: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require(module="ziglang", reason="its front ends check the texts: pip install 'edgellm[tvm]'")
    limits, written = PROGRAMS[name]
    language, _, arithmetic = written.partition("-")
    monkeypatch.setattr(program, "export", _export)
    out = tmp_path / written
    program.write_program(config(family), "int4", language, arithmetic, limits, CONTEXT, out)  # type: ignore[arg-type]
    # Reading it checks that all its references resolve.
    plan = decode_plan((out / PLAN_NAME).read_bytes(), written)
    assert device_problem(plan, limits) is None
    assert (plan.language, plan.arithmetic) == (language, arithmetic)
    assert plan.needs == (("fp16",) if arithmetic == "fp16" else ())
    texts = {kernel.name: (out / kernel.source).read_text() for kernel in plan.kernels}
    for kernel in plan.kernels:
        threads, shared, buffers = measured(language, texts[kernel.name])
        assert threads in (kernel.threads, None) and prod(kernel.threads) <= limits.threads
        assert shared == kernel.shared_bytes <= limits.shared_bytes
        assert buffers == len(kernel.access) <= limits.buffers
    if limits.direct is not None:
        products = [one for one in plan.kernels if set(plan.weights) & matrices(plan, one.name)]
        assert len(products) > 8 and all(one.shared_bytes == 0 for one in products)
    fresh = [text for text in texts.values() if text not in _compiled]
    _compiled.update(fresh)
    compile_texts(language, arithmetic, fresh)


def matrices(plan: Plan, kernel: str) -> set[str]:
    """Matrices that a kernel takes."""
    arguments = {
        name
        for routine in plan.routines
        for launch in routine.launches
        if launch.kernel == kernel
        for name in launch.arguments
    }
    return {name for name in arguments if name.endswith(".w")}


_BYTES = {"float": 4, "half": 2, "int": 4, "uint": 4, "f32": 4, "f16": 2, "i32": 4, "u32": 4}


def measured(language: str, text: str) -> tuple[tuple[int, ...] | None, int, int]:
    """Threads of a workgroup (None: the host says), bytes of its memory, and buffers, by the text."""
    if language == "wgsl":
        size = re.search(r"@workgroup_size\((\d+), (\d+), (\d+)\)", text)
        arrays = re.findall(r"var<workgroup> \w+ ?: ?array<(?:vec(\d)<)?(\w+)>?, ?(\d+)>", text)
        assert text.count("var<workgroup>") == len(arrays)
        buffers = len(re.findall(r"var<storage, \w+>", text))
    elif language == "opencl":
        size = re.search(r"reqd_work_group_size\((\d+), (\d+), (\d+)\)", text)
        arrays = [(n, t, c) for t, n, c in re.findall(r"__local ([a-z]+)(\d*) \w+\[(\d+)\]", text)]
        assert text.count("__local ") == len(arrays)
        buffers = text.count("__global ")
    else:
        size = None
        arrays = [(n, t, c) for t, n, c in re.findall(r"threadgroup ([a-z]+)(\d*) \w+\[(\d+)\]", text)]
        assert text.count("threadgroup ") == len(arrays)
        buffers = len(re.findall(r"device (?:const )?\w+\* \w+ \[\[ buffer", text))
    shared = sum(int(lanes or 1) * _BYTES[kind] * int(count) for lanes, kind, count in arrays)
    return size and tuple(int(one) for one in size.groups()), shared, buffers


def compile_texts(language: str, arithmetic: str, texts: list[str]) -> None:
    if not texts:
        return
    if language == "metal":
        check_metal("\n".join(texts))
    elif language == "opencl":
        check_opencl("\n".join(texts), half=arithmetic == "fp16")
        if arithmetic == "fp32":
            device = runner("opencl")
            assert isinstance(device, OpenClRunner)
            device.compile("\n".join(texts))
    else:
        device = runner("wgsl")
        assert isinstance(device, WgpuRunner) and (device.fp16 or arithmetic == "fp32")
        for text in texts:
            device.compile(text)


def test_front_ends_refuse_what_is_wrong() -> None:
    require(module="ziglang", reason="its front ends check the texts: pip install 'edgellm[tvm]'")
    text = "__kernel void f(__global const float* x, __global float* y) { y[0] = sqrt(x[0]); }"
    check_opencl(text, half=False)
    for old, new in (("sqrt(", "root("), ("y[0] =", "x[0] ="), ("float* y", "half* y"), ("y[0]", "y.x")):
        with pytest.raises(AssertionError, match="error:"):
            check_opencl(text.replace(old, new), half=False)
    check_opencl(text.replace("float", "half"), half=True)
    with pytest.raises(Exception, match="root"):
        runner("opencl").compile(text.replace("sqrt(", "root("))
    with pytest.raises(Exception, match="i32"):
        runner("wgsl").compile("fn f() -> i32 { return 1.5; }")


@pytest.mark.parametrize("name", DEVICES)
def test_large_models_keep_to_the_target(name: str) -> None:
    """`lower` refuses what does not fit: real shapes do, and phones get groups of 64 or 128."""
    limits = DEVICES[name].limits
    for model in LARGE.values():
        for quant, arithmetic in (("int4", "fp16"), ("fp16", "fp32")):
            graph = lower(model, quant, arithmetic, limits, max_tokens=256, max_rows=64)  # type: ignore[arg-type]
            if name in ("adreno", "mali"):
                assert all(prod(kernel.threads) in (64, 128) for kernel in graph.kernels)

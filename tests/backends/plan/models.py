"""Golden cases as GPU programs, each built once a session, and the devices of this machine that run them."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tvm_ffi import StructuralKey

from edgellm.adapters import Adapter, list_adapters
from edgellm.backends.plan.executor import PlanExecutor
from edgellm.backends.plan.open import open_executor
from edgellm.backends.plan.weights import write_weights
from edgellm.backends.tvm.gpu_weights import make
from edgellm.bundle.manifest import MemoryFacts
from edgellm.checkpoint import Checkpoint
from edgellm.compile.gpu import program as program_module
from edgellm.compile.gpu.export import Source, export
from edgellm.compile.gpu.kernel import GpuKernel
from edgellm.compile.plan.limits import DeviceLimits
from edgellm.compile.plan.plan import Language
from edgellm.quantize.formats import BITS
from edgellm.targets import load_targets
from tests.golden.cases import CASES, CONTEXT, golden
from tests.support import require

FACTS = MemoryFacts(1 << 20, 1, 1)
HOSTS = {
    "wgsl": ("wgpu", "wgpu", "pip install 'edgellm[gpu]' and apt-get install mesa-vulkan-drivers"),
    "opencl": ("opencl", "pyopencl", "pip install 'edgellm[opencl]' and apt-get install pocl-opencl-icd"),
}
PROGRAMS = ("wgsl-fp32", "wgsl-fp16", "opencl-fp32")
"""Programs that software devices run as well: PoCL has no fp16."""


@cache
def _root() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="edgellm-plan-tests-")


@cache
def _adapters() -> tuple[Adapter, ...]:
    return tuple(list_adapters())


def adapter_number(language: str) -> str:
    """Number of an adapter that runs programs in `language`: software rather than a GPU."""
    through, module, how = HOSTS[language]
    require(module=module, reason=f"it runs {language} programs: {how}")
    found = [one for one in _adapters() if one.through == through]
    if not found:
        refuse = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        refuse(f"no device here runs {language} programs: {how}")
    return str(min(found, key=lambda one: one.kind != "software").number)


def use_program(patch: pytest.MonkeyPatch, program: str) -> None:
    """Have bundles opened with this program, such as wgsl-fp16, on an adapter that runs it."""
    language, _, arithmetic = program.partition("-")
    number = adapter_number(language)
    if arithmetic == "fp16" and not _adapters()[int(number)].fp16:
        refuse = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        refuse(f"{_adapters()[int(number)]} has no fp16 arithmetic")
    patch.setenv("EDGELLM_ADAPTER", number)
    patch.setenv("EDGELLM_PROGRAM", program)


@cache
def checkpoint(name: str) -> Path:
    """Golden case `name`."""
    return CASES[name].make(Path(_root().name) / f"{name}-checkpoint", golden(name).seed)


_exported: dict[tuple[str, StructuralKey], tuple[GpuKernel, Source]] = {}


def _export_once(kernel: GpuKernel, language: Language) -> Source:
    """`export`, once a session for each kernel: cases share most of them."""
    key = language, StructuralKey(kernel.function)
    if key not in _exported:
        _exported[key] = kernel, export(kernel, language)
    known, source = _exported[key]
    assert known == replace(kernel, function=known.function), "functions alike, and nothing else"
    return source


def limits_of(target: str | None) -> DeviceLimits:
    """The limits of a GPU target; those that programs have by themselves if there is none."""
    device = load_targets()[target].device if target is not None else None
    return device.limits if device is not None else DeviceLimits()


def program(name: str, quant: str, programs: tuple[str, ...], target: str | None = None) -> Path:
    """A folder with programs and weights of golden case `name`."""
    return _program(name, quant, programs, target)


@cache
def _program(name: str, quant: str, programs: tuple[str, ...], target: str | None) -> Path:
    limits = limits_of(target)
    out = Path(_root().name) / f"{name}-{quant}-{'-'.join(programs)}-{target}"
    out.mkdir()
    with Checkpoint.open(checkpoint(name)) as opened, pytest.MonkeyPatch.context() as patch:
        patch.setattr(program_module, "export", _export_once)
        for one in programs:
            language, _, arithmetic = one.partition("-")
            program_module.write_program(
                opened.config, quant, language, arithmetic, limits, CONTEXT, out / one,  # type: ignore[arg-type]
            )  # fmt: skip
        made = make(opened, BITS[quant], limits.binding_bytes)
        write_weights(out, (buffer for _, buffers in made for buffer in buffers))
    return out


def open_program(
    folder: Path, name: str, adapter: str, *, context: int = CONTEXT, max_batch: int | None = 4, **more: Any
) -> PlanExecutor:
    """Its executor."""
    with Checkpoint.open(checkpoint(name)) as opened:
        config = opened.config
    return open_executor(
        folder, config, FACTS, context=context, max_batch=max_batch, default_batch=8, adapter=adapter, **more
    )


@cache
def executor(
    name: str, language: str, quant: str = "fp32", arithmetic: str = "fp32", target: str | None = None
) -> PlanExecutor:
    """Golden case `name` on a device that runs `language`, with room for four sequences."""
    number = adapter_number(language)
    return open_program(program(name, quant, (f"{language}-{arithmetic}",), target), name, number)

"""Sources of kernels, from TVM's code generators, with their known defects mended."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm.ir.expr import TensorLoad
from tvm.ir.prim.expr import FloatImm
from tvm.tirx.stmt import BufferStore
from tvm_ffi import register_global_func, structural_walk

from edgellm.compile.gpu.kernel import GpuKernel
from edgellm.compile.gpu.mend import HALF, ExportError, mend_cuda, mend_metal, mend_opencl, mend_wgsl, tidy
from edgellm.compile.gpu.ptx import ARCHITECTURE
from edgellm.compile.plan.plan import Access, Language

# These rewrite what is written as it should be: with them, values bound once are computed again and again.
_UNNEEDED = [
    "s_tir.CompactBufferAllocation", "s_tir.HoistIfThenElse", "s_tir.StmtSimplify", "tirx.StmtSimplify",
    "s_tir.RenormalizeSplitPattern", "s_tir.InjectVirtualThread", "s_tir.InjectPermutedLayout",
    "s_tir.InjectSoftwarePipeline", "s_tir.TransformMmaBufferLayout", "tirx.RemoveNoOp", "s_tir.ThreadSync",
]  # fmt: skip
_KINDS: dict[Language, str] = {"wgsl": "webgpu", "opencl": "opencl", "metal": "metal", "cuda": "cuda"}
_METAL = {"max_threads_per_block": 256, "max_shared_memory_per_block": 32768, "thread_warp_size": 1}
_FORBIDDEN = ("subgroup", "sub_group", "simd_", "simdgroup", "__shfl", "warp")
"""Lanes that compute together: their number differs between devices, and generated code does not check it."""


@dataclass(frozen=True)
class Source:
    """One kernel's text.

    Attributes:
        entry: the function's name. scalars: sizes it takes after its buffers, in order.
        half: the device must have 16-bit floats.
    """

    text: str
    entry: str
    scalars: tuple[str, ...]
    half: bool


def export(kernel: GpuKernel, language: Language) -> Source:
    """The kernel's source in WGSL, OpenCL C, Metal or CUDA C.

    Raises:
        ExportError: see there.
    """
    _check_access(kernel)
    device = _generate(kernel, language)
    text = device.inspect_source(language if language in ("wgsl", "cuda") else "")
    entry = f"{kernel.name}_kernel"
    if language == "wgsl":
        _check_writes(kernel, json.loads(device.inspect_source("func_info")), entry)
    mend = {"wgsl": mend_wgsl, "opencl": mend_opencl, "metal": mend_metal, "cuda": mend_cuda}[language]
    text, scalars = mend(_exact_constants(kernel, text), kernel, entry)
    for word in _FORBIDDEN:
        if word in text:
            raise ExportError(f"{kernel.name}: the {language} text uses {word}, whose width is not known")
    if strange := set(scalars) - set(kernel.sizes):
        raise ExportError(f"{kernel.name}: the {language} text takes {sorted(strange)}, which are no sizes")
    code = re.sub(r"//.*", "", text)
    return Source(tidy(text), entry, scalars, bool(re.search(HALF[language], code)))


def _generate(kernel: GpuKernel, language: Language) -> Any:
    """The code generator's module, which has the kernel alone."""
    kind: dict[str, Any] = {"kind": _KINDS[language]}
    if language == "metal":
        kind |= _METAL
    if language == "cuda":
        # Where TVM finds NVIDIA's driver it would compile the text as well, and with a toolkit that few have.
        kind["arch"] = ARCHITECTURE
        register_global_func("tvm_callback_cuda_compile", lambda *_: b"//", override=True)
    target = tvm.target.Target(kind, host={"kind": "llvm"})
    with tvm.transform.PassContext(disabled_pass=_UNNEEDED, config={"tirx.disable_cse_tir": True}):
        library = tvm.compile(tvm.IRModule({kernel.name: kernel.function}), target=target)
    module = getattr(library, "mod", library)
    [device] = module.imports
    return device


def access(kernel: GpuKernel) -> tuple[Access, ...]:
    """What the kernel's code does with each of its buffers."""
    loaded, stored = set(), set()

    def load(node: Any) -> None:
        loaded.add(node.source.name)

    def store(node: Any) -> None:
        stored.add(node.buffer.name)

    structural_walk(kernel.function.body, [(TensorLoad, load), (BufferStore, store)])
    found: list[Access] = []
    for name in (
        parameter.name for parameter in kernel.function.params if parameter.name not in kernel.sizes
    ):
        if name not in loaded | stored:
            raise ExportError(f"{kernel.name} does not use its buffer {name}")
        both: Access = "readwrite" if name in loaded else "write"
        found.append(both if name in stored else "read")
    return tuple(found)


def _check_access(kernel: GpuKernel) -> None:
    declared = tuple(one.access for one in kernel.arguments)
    if declared != access(kernel):
        raise ExportError(f"{kernel.name} declares {declared} of its buffers and does {access(kernel)}")


def _check_writes(kernel: GpuKernel, info: dict[str, Any], entry: str) -> None:
    """TVM says of each buffer whether it is written, in the order of the bindings."""
    [flags] = [one for one in info[entry]["launch_param_tags"] if one.startswith("paramWriteAccess:")]
    writes = json.loads(flags.partition(":")[2])
    if writes != [int(one.access != "read") for one in kernel.arguments]:
        raise ExportError(f"{kernel.name}: TVM says that it writes {writes}, the kernel declares otherwise")


def _exact_constants(kernel: GpuKernel, text: str) -> str:
    """The text with its float32 constants written with nine digits: seven do not name every number."""
    values: list[np.float32] = []

    def visit(node: Any) -> None:
        if str(node.ty) == "float32":
            values.append(np.float32(abs(node.value)))

    structural_walk(kernel.function.body, (FloatImm, visit))
    exact: dict[str, str] = {}
    for value in values:
        short = f"{value:e}"
        longer = short if np.float32(short) == value else _nine_digits(value)
        if exact.setdefault(short, longer) != longer:
            raise ExportError(f"{kernel.name}: two constants are both written {short}")
    for short, longer in exact.items():
        text = re.sub(rf"(?<![\w.]){re.escape(short)}(?=f)", longer, text)
    return text


def _nine_digits(value: np.float32) -> str:
    """`value` with nine digits, which name every number of float32."""
    text = f"{value:.8e}"
    # The largest number, rounded to nine digits, is a little larger than itself: Chromium refuses that.
    return text if float(text) <= float(np.finfo(np.float32).max) else "3.40282346e+38"

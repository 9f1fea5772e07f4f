"""Sources of kernels, from TVM's code generators, with what must be changed in them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import tvm

from edgellm.compile.gpu.kernel import GpuKernel

# These rewrite what is written as it should be: with them, values bound once are computed again and again.
_UNNEEDED = [
    "s_tir.CompactBufferAllocation", "s_tir.HoistIfThenElse", "s_tir.StmtSimplify", "tirx.StmtSimplify",
    "s_tir.RenormalizeSplitPattern", "s_tir.InjectVirtualThread", "s_tir.InjectPermutedLayout",
    "s_tir.InjectSoftwarePipeline", "s_tir.TransformMmaBufferLayout", "tirx.RemoveNoOp", "s_tir.ThreadSync",
]  # fmt: skip
_KINDS = {"wgsl": "webgpu", "opencl": "opencl", "metal": "metal"}


@dataclass(frozen=True)
class Source:
    """One kernel's text.

    Attributes:
        entry: the function's name. scalars: sizes it takes after its buffers, in order.
    """

    text: str
    entry: str
    scalars: tuple[str, ...]


def export(kernel: GpuKernel, language: str) -> Source:
    """The kernel's source in WGSL, OpenCL C or Metal."""
    target: dict[str, Any] = {"kind": _KINDS[language]}
    if language == "metal":
        target |= {"max_threads_per_block": 256, "max_shared_memory_per_block": 32768, "thread_warp_size": 1}
    target = tvm.target.Target(target, host={"kind": "llvm"})
    with tvm.transform.PassContext(disabled_pass=_UNNEEDED, config={"tirx.disable_cse_tir": True}):
        library = tvm.compile(tvm.IRModule({kernel.name: kernel.function}), target=target)
    module = getattr(library, "mod", library)
    [device] = module.imports
    text = device.inspect_source("wgsl" if language == "wgsl" else "")
    [entry] = re.findall(r"\b(\w+_kernel)\s*\(", text)[:1]
    if language == "wgsl":
        text = re.sub(r"packGridDimX\) \{ return", "packGridDimX - 1u) { return", text)
        [fields] = re.findall(r"struct PODArgs \{(.*?)\}", text, re.DOTALL)
        scalars = tuple(re.findall(r"(\w+): i32", fields))
    elif language == "opencl":
        [signature] = re.findall(rf"{entry}\((.*?)\)", text)[:1]
        scalars = tuple(re.findall(r"\bint (\w+)", signature))
    else:
        scalars = ()
    return Source(text, entry, scalars)

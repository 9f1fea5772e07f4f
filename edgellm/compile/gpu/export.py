"""Sources of kernels, from TVM's code generators, with their known defects mended.

What is changed in a text is matched whole: one that looks otherwise than expected is an error, not a guess.
docs/plan.md says what a host may rely on.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import tvm
from tvm.ir.expr import TensorLoad
from tvm.ir.prim.expr import FloatImm
from tvm.tirx.stmt import BufferStore
from tvm_ffi import register_global_func, structural_walk

from edgellm.compile.gpu.kernel import GpuKernel
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
_HALF: dict[Language, str] = {
    "wgsl": r"\benable f16;", "opencl": r"\bcl_khr_fp16\b", "metal": r"\bhalf\d*\b", "cuda": r"\bhalf\d*\b",
}  # fmt: skip
_FORBIDDEN = ("subgroup", "sub_group", "simd_", "simdgroup", "__shfl", "warp")
"""Lanes that compute together: their number differs between devices, and generated code does not check it."""

_CUDA_UINT = "typedef unsigned int uint;\n\n"
_CUDA_HALF = "#include <cuda_fp16.h>\n\n"
_CUDA_HALF4 = """struct __align__(8) half4 {
  half x, y, z, w;
};
static __device__ __forceinline__ half4 make_half4(half x, half y, half z, half w) {
  half4 v = {x, y, z, w};
  return v;
}

"""
"""CUDA has no vector of four halves."""


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


class ExportError(Exception):
    """A code generator's text is not what this module knows: TVM has changed, or a kernel is wrong."""


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
    mend = {"wgsl": _mend_wgsl, "opencl": _mend_opencl, "metal": _mend_metal, "cuda": _mend_cuda}[language]
    text, scalars = mend(_exact_constants(kernel, text), kernel, entry)
    for word in _FORBIDDEN:
        if word in text:
            raise ExportError(f"{kernel.name}: the {language} text uses {word}, whose width is not known")
    if strange := set(scalars) - set(kernel.sizes):
        raise ExportError(f"{kernel.name}: the {language} text takes {sorted(strange)}, which are no sizes")
    code = re.sub(r"//.*", "", text)
    return Source(_tidy(text), entry, scalars, bool(re.search(_HALF[language], code)))


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


def _mend_wgsl(text: str, kernel: GpuKernel, entry: str) -> tuple[str, tuple[str, ...]]:
    """WGSL: workgroups are numbered as they are launched, and only sizes are in the uniform buffer.

    TVM spreads a grid wider than 65,535 over z and stops the rest by a guard in every kernel, which lets one
    workgroup too many pass. Plans keep within 65,535 in each direction instead.
    """
    text = _one(text, "  if (blockIdx.z * gridDim.x + blockIdx.x > podArgs.packGridDimX) { return; }\n", "")
    text = _one(text, "  @builtin(num_workgroups) gridDim : vec3<u32>,\n", "")
    text = text.replace("i32(blockIdx.z * gridDim.x + blockIdx.x)", "i32(blockIdx.x)")
    fields = _match(r"struct PODArgs \{\n(.*?)  packGridDimX: u32\n\}", text)
    scalars = _used(re.findall(r"^  (\w+): i32,$", fields, re.MULTILINE), text, "podArgs.")
    uniform = f"@group(0) @binding({len(kernel.arguments)}) var<uniform> podArgs : PODArgs;\n"
    struct = f"struct PODArgs {{\n{fields}  packGridDimX: u32\n}}\n"
    if scalars:
        kept = ",\n".join(f"  {name}: i32" for name in scalars)
        text = _one(text, struct, f"struct PODArgs {{\n{kept}\n}}\n")
    else:
        text = _one(_one(text, struct, ""), uniform, "")
    bindings = re.findall(r"^@group\(0\) @binding\((\d+)\) var<storage, (\w+)> b(\d+)_", text, re.MULTILINE)
    modes = {"read": "read", "write": "read_write", "readwrite": "read_write"}
    expected = [(str(i), modes[one.access], str(i)) for i, one in enumerate(kernel.arguments)]
    if bindings != expected or (scalars and uniform not in text):
        raise ExportError(f"{kernel.name}: bindings of the WGSL text are {bindings}, not {expected}")
    x, y, z = kernel.threads
    if f"@compute @workgroup_size({x}, {y}, {z})\nfn {entry}(" not in text:
        raise ExportError(
            f"{kernel.name}: the WGSL text has no function {entry} of workgroups {x} x {y} x {z}"
        )
    return text, scalars


def _mend_opencl(text: str, kernel: GpuKernel, entry: str) -> tuple[str, tuple[str, ...]]:
    """OpenCL C: buffers that are only read are const; the prototype goes; vectors are not made as in C++."""
    text = re.sub(r"\b(float|half)4\(", r"(\g<1>4)(", text)
    head = rf"__kernel void (?:__attribute__\(\(.*?\)\) )?{entry}\(([^)]*)\)"
    prototype = re.search(head + ";\n", text)
    if prototype:
        text = text.replace(prototype[0], "", 1)
    signature = _match(head + r" \{", text)
    parameters = signature.split(", ")
    buffers = [one for one in parameters if one.startswith("__global ")]
    found = [one.removeprefix("int ") for one in parameters[len(buffers) :] if one.startswith("int ")]
    if len(buffers) + len(found) != len(parameters) or not _in_order(buffers, kernel):
        raise ExportError(f"{kernel.name}: the OpenCL text takes {parameters}")
    scalars = _used(found, text.replace(signature, ""))
    constant = [
        one.replace("__global ", "__global const ") if argument.access == "read" else one
        for one, argument in zip(buffers, kernel.arguments, strict=True)
    ]
    parameters = [*constant, *(f"int {name}" for name in scalars)]
    x, y, z = kernel.threads
    group = f"__attribute__((reqd_work_group_size({x}, {y}, {z})))"
    whole = _whole(head + r" \{", text)
    return text.replace(whole, f"__kernel {group} void {entry}({', '.join(parameters)}) {{"), scalars


def _mend_metal(text: str, kernel: GpuKernel, entry: str) -> tuple[str, tuple[str, ...]]:
    """Metal: the sizes are a struct of int, as in WGSL, not of pairs whose second half is unused."""
    text = _one(text, "union __TVMArgUnion {\n int v_int[2];\n};\n", "")
    signature = _match(rf"kernel void {entry}\((.*?)\n\) \{{", text)
    buffers = re.findall(r"device \w+\* (\w+) \[\[ buffer\(\d+\) \]\]", signature)
    if not _in_order(buffers, kernel):
        raise ExportError(f"{kernel.name}: the Metal text takes {buffers}")
    scalars: tuple[str, ...] = ()
    constant = signature
    if "_args_t" in text:
        struct = f"struct {entry}_args_t {{\n"
        fields = _match(re.escape(struct) + r"(.*?)\};", text)
        parameter = f"  constant {entry}_args_t& arg [[ buffer({len(buffers)}) ]],\n"
        scalars = _used(re.findall(r"^  int (\w+)\[2\];$", fields, re.MULTILINE), text, "arg.")
        if scalars:
            text = _one(text, struct + fields, struct + "".join(f"  int {name};\n" for name in scalars))
        else:
            text = _one(text, f"{struct}{fields}}};\n", "")
            constant = _one(constant, parameter, "")
        for name in scalars:
            text = text.replace(f"arg.{name}[0]", f"arg.{name}")
        if re.search(r"\barg\.\w+\[", text) or parameter not in signature:
            raise ExportError(f"{kernel.name}: sizes of the Metal text are passed in a way that is not known")
    for name, argument in zip(buffers, kernel.arguments, strict=True):
        if argument.access == "read":
            constant = re.sub(rf"device (\w+\* {name} )", r"device const \1", constant)
    text = _one(text, signature, constant)
    return _one(text, f"kernel void {entry}(  ", f"kernel void {entry}(\n  "), scalars


def _mend_cuda(text: str, kernel: GpuKernel, entry: str) -> tuple[str, tuple[str, ...]]:
    """CUDA C: of what TVM puts before a kernel what it uses; buffers that are only read are const."""
    head = rf'extern "C" __global__ void (?:__launch_bounds__\((\d+)\) )?{entry}\(([^)]*)\) \{{'
    whole, threads = _match(head, text, 0), int(_match(head, text) or 1)
    parameters = _match(head, text, 2).split(", ")
    buffers = [one for one in parameters if re.match(r"\w+\* __restrict__ ", one)]
    found = [one.removeprefix("int ") for one in parameters[len(buffers) :] if one.startswith("int ")]
    if len(buffers) + len(found) != len(parameters) or not _in_order(buffers, kernel):
        raise ExportError(f"{kernel.name}: the CUDA text takes {parameters}")
    if threads != prod(kernel.threads):
        raise ExportError(f"{kernel.name}: the CUDA text is for {threads} threads")
    _, _, body = text.partition(whole)
    # Numbers are hexadecimal, with what a person reads in a comment, and of more digits than float32 has.
    body = re.sub(r"(0x[\da-f.]+p[-+]\d+)f(/\*-?\d[-+.\de]*\*/)?", lambda found: _float32(found[1]), body)
    # Some versions of Clang take the two in this order only.
    body = re.sub(r"__shared__ (alignas\(\d+\)) ", r"\1 __shared__ ", body)
    scalars = _used(found, body)
    constant = [
        f"const {one}" if argument.access == "read" else one
        for one, argument in zip(buffers, kernel.arguments, strict=True)
    ]
    parameters = [*constant, *(f"int {name}" for name in scalars)]
    start = f'extern "C" __global__ void __launch_bounds__({threads}) {entry}({", ".join(parameters)}) {{'
    parts = ((_CUDA_HALF, _HALF["cuda"]), (_CUDA_HALF4, r"\bhalf4\b"), (_CUDA_UINT, r"\buint\b"))
    before = "".join(part for part, use in parts if re.search(use, start + body))
    return f"{before}{start}{body}", scalars


def _float32(hexadecimal: str) -> str:
    """The nearest number of float32, written exactly."""
    digits, _, power = float(np.float32(float.fromhex(hexadecimal))).hex().partition("p")
    whole, _, fraction = digits.partition(".")
    return f"{whole}.{fraction.rstrip('0') or '0'}p{power}f"


def _used(names: list[str], text: str, prefix: str = "") -> tuple[str, ...]:
    """Those that the code reads: TVM passes the sizes of the grid as well."""
    return tuple(name for name in names if re.search(rf"\b{re.escape(prefix + name)}\b", text))


def _in_order(buffers: list[str], kernel: GpuKernel) -> bool:
    found = [re.search(r"\bb(\d+)_\w+$", one) for one in buffers]
    return [one and int(one[1]) for one in found] == list(range(len(kernel.arguments)))


def _one(text: str, old: str, new: str) -> str:
    if text.count(old) != 1:
        raise ExportError(
            f"{old!r} stands {text.count(old)} times in a text where it should stand once:\n{text}"
        )
    return text.replace(old, new)


def _match(pattern: str, text: str, group: int = 1) -> str:
    found = re.search(pattern, text, re.DOTALL)
    if found is None:
        raise ExportError(f"{pattern!r} does not match:\n{text}")
    return found[group]


def _whole(pattern: str, text: str) -> str:
    return _match(pattern, text, 0)


def _tidy(text: str) -> str:
    """Without TVM's headings and runs of empty lines."""
    text = re.sub(r"^// Function: .*\n|^//-+\n", "", text, flags=re.MULTILINE)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"

"""What code generators write, turned into what docs/plan.md promises a host.

What is changed in a text is matched whole: one that looks otherwise than expected is an error, not a guess.
"""

from __future__ import annotations

import re
from math import prod

import numpy as np

from edgellm.compile.gpu.kernel import GpuKernel
from edgellm.compile.plan.plan import Language

HALF: dict[Language, str] = {
    "wgsl": r"\benable f16;", "opencl": r"\bcl_khr_fp16\b", "metal": r"\bhalf\d*\b", "cuda": r"\bhalf\d*\b",
}  # fmt: skip

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


class ExportError(Exception):
    """A code generator's text is not what this module knows: TVM has changed, or a kernel is wrong."""


def mend_wgsl(text: str, kernel: GpuKernel, entry: str) -> tuple[str, tuple[str, ...]]:
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


def mend_opencl(text: str, kernel: GpuKernel, entry: str) -> tuple[str, tuple[str, ...]]:
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


def mend_metal(text: str, kernel: GpuKernel, entry: str) -> tuple[str, tuple[str, ...]]:
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


def mend_cuda(text: str, kernel: GpuKernel, entry: str) -> tuple[str, tuple[str, ...]]:
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
    parts = ((_CUDA_HALF, HALF["cuda"]), (_CUDA_HALF4, r"\bhalf4\b"), (_CUDA_UINT, r"\buint\b"))
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


def tidy(text: str) -> str:
    """Without TVM's headings and runs of empty lines."""
    text = re.sub(r"^// Function: .*\n|^//-+\n", "", text, flags=re.MULTILINE)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"

"""From a graph to a shared library: the phases by name, each of which can be looked at (`--dump`)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tvm
from tvm import relax, s_tir, tirx

from edgellm.compile.isa import Isa
from edgellm.errors import EdgeLLMError

Passes = Callable[[], list[Any]]

GRAPH_PHASES: dict[str, Passes] = {
    "memory": lambda: [
        relax.transform.RemovePurityChecking(), relax.transform.StaticPlanBlockMemory(),
        relax.transform.LowerAllocTensor(),
    ],
    "calls": lambda: [
        relax.transform.LowerRuntimeBuiltin(), relax.transform.ComputePrimValue(),
        relax.transform.VMShapeLower(), relax.transform.AttachGlobalSymbol(),
    ],
}  # fmt: skip
"""The graph: which tensors share memory, and what the virtual machine calls one after the other."""

KERNEL_PHASES: dict[str, Passes] = {
    "loops": lambda: [
        s_tir.transform.CanonicalizeLoop(), s_tir.transform.LowerInitBlock(),
        s_tir.transform.PlanAndUpdateBufferAllocationLocation(), s_tir.transform.ConvertBlocksToOpaque(),
        s_tir.transform.LowerMatchBuffer(), s_tir.transform.LowerOpaqueBlock(),
        tirx.transform.FlattenBuffer(), tirx.transform.NarrowDataType(32), s_tir.transform.LoopPartition(),
    ],
    "unrolled": lambda: [
        tirx.transform.VectorizeLoop(True), tirx.transform.StorageRewrite(), tirx.transform.UnrollLoop(),
        tirx.transform.StmtSimplify(), s_tir.transform.RewriteUnsafeSelect(),
    ],
    "functions": lambda: [
        tirx.transform.VerifyMemory(), tirx.transform.AnnotateEntryFunc(), tirx.transform.SplitHostDevice(),
        tirx.transform.MakePackedAPI(), tirx.transform.LowerTVMBuiltin(), tirx.transform.LowerIntrin(),
    ],
}  # fmt: skip
"""The kernels: TVM's pipeline for schedules, without its passes for GPUs and for schedules that these kernels
do not have. The machine code is the same without those, and some would take most of the build."""


def compile_graph(module: tvm.IRModule, isa: Isa, out: Path, *, dump: Path | None = None) -> None:
    """Compile a module of `graph.build_graph` into the shared library `out`.

    Args:
        dump: a directory that receives what each phase makes.
    """
    target = tvm.target.Target(isa.target())
    dumped = _Dump(dump)
    dumped.module("graph", module)
    with target:
        for name, passes in GRAPH_PHASES.items():
            module = tvm.transform.Sequential(passes())(module)
            dumped.module(name, module)
        bytecode = relax.ExecBuilder()
        kernels = _kernels(_call("relax.VMCodeGen", bytecode, module))
    machine_code = compile_kernels(kernels, isa, dumped.module)
    dumped.text("machine-code.s", lambda: machine_code.inspect_source("asm"))
    executable = relax.VMExecutable(_call("relax.VMLink", bytecode, target, machine_code, [], {}))
    dumped.text("bytecode.txt", executable.as_text)
    executable.export_library(str(out), fcompile=_linker(isa))


def compile_kernels(
    kernels: tvm.IRModule, isa: Isa, show: Callable[[str, tvm.IRModule], None] = lambda name, module: None
) -> Any:
    """Machine code of a module of kernels; `show` gets the module after each phase."""
    target = tvm.target.Target(isa.target())
    target = target.with_host(target)
    with target:
        kernels = tirx.transform.BindTarget(target)(kernels)
        for name, passes in KERNEL_PHASES.items():
            kernels = tvm.transform.Sequential(passes())(kernels)
            show(name, kernels)
        return _call("target.build.llvm", kernels, target)


class _Dump:
    """Writes what phases make into a directory, numbered in their order, if there is one."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._count = 0

    def module(self, phase: str, module: tvm.IRModule) -> None:
        self.text(f"{phase}.py", module.script)

    def text(self, name: str, text: Callable[[], str]) -> None:
        if self._directory is not None:
            self._directory.mkdir(parents=True, exist_ok=True)
            (self._directory / f"{self._count}-{name}").write_text(text(), encoding="utf-8")
        self._count += 1


def _call(name: str, *arguments: Any) -> Any:
    """One of the compiler's functions that it has by name only."""
    return tvm.get_global_func(name)(*arguments)


def _kernels(module: tvm.IRModule) -> tvm.IRModule:
    """The kernels of a module by themselves."""
    functions = {name: one for name, one in module.functions.items() if isinstance(one, tirx.PrimFunc)}
    return tvm.IRModule(functions, attrs=module.attrs)


_ZIG_TARGETS = {
    # By system, and whether the processor is an Arm one.
    ("linux", False): "x86_64-linux-gnu.2.28",
    ("linux", True): "aarch64-linux-gnu.2.28",
    ("macosx", True): "aarch64-macos.11.0",
    ("windows", False): "x86_64-windows-gnu",
}


def _linker(isa: Isa) -> Callable[..., None]:
    """Zig's linker: the same on every building machine, for every system."""

    def link(output: str, objects: list[str], options: list[str] | None = None, **_: Any) -> None:
        system = isa.triple.split("-")[2].rstrip("0123456789.")
        more = ["-Wl,-s"]
        if system == "macosx":
            more = ["-Wl,-undefined,dynamic_lookup"]
        elif system == "windows":
            more.append(_runtime_symbols(Path(objects[0]).parent))
        _zig("cc", "-shared", "-target", _ZIG_TARGETS[system, isa.bits == 128], "-o", output, *objects, *more)

    link.output_format = "so"  # type: ignore[attr-defined]
    return link


def _runtime_symbols(folder: Path) -> str:
    """An import library: Windows wants to know at link time which DLL has a symbol that is not here."""
    definition, library = folder / "tvm_ffi.def", folder / "libtvm_ffi.a"
    definition.write_text("LIBRARY tvm_ffi.dll\nEXPORTS\nTVMFFIErrorSetRaisedFromCStrParts\n")
    _zig("dlltool", "-m", "i386:x86-64", "-d", str(definition), "-l", str(library))
    return str(library)


def _zig(*arguments: str) -> None:
    command = [sys.executable, "-m", "ziglang", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EdgeLLMError(f"zig {arguments[0]} failed: {done.stderr.strip()[-2000:]}")

"""From a graph to a shared library: the phases by name, each of which can be looked at (`--dump`)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tvm
from tvm import relax

from edgellm.compile.isa import Isa
from edgellm.errors import EdgeLLMError

PHASES: tuple[tuple[str, Callable[[], list[Any]]], ...] = (
    ("memory", lambda: [
        relax.transform.RemovePurityChecking(), relax.transform.StaticPlanBlockMemory(),
        relax.transform.LowerAllocTensor(),
    ]),
    ("runtime", lambda: [
        relax.transform.LowerRuntimeBuiltin(), relax.transform.ComputePrimValue(),
        relax.transform.VMShapeLower(),
        relax.transform.AttachGlobalSymbol(),
    ]),
)  # fmt: skip
"""Lowering of the graph; kernels are lowered by TVM's own pipeline afterwards."""

# Passes for schedules that these kernels do not have, left out because each walks over every kernel: the
# machine code is the same without them, and the first alone would take most of the build.
UNNEEDED = [
    "s_tir.CompactBufferAllocation", "s_tir.HoistIfThenElse", "s_tir.StmtSimplify",
    "s_tir.RenormalizeSplitPattern", "s_tir.InjectVirtualThread", "s_tir.InjectPermutedLayout",
    "s_tir.InjectSoftwarePipeline", "s_tir.TransformMmaBufferLayout", "tirx.RemoveNoOp",
]  # fmt: skip


def compile_graph(module: tvm.IRModule, isa: Isa, out: Path, *, dump: Path | None = None) -> None:
    """Compile a module of `graph.build_graph` into the shared library `out`.

    Args:
        dump: a directory that receives the module after each phase, and the assembly.
    """

    def show(name: str, text: str) -> None:
        if dump is not None:
            dump.mkdir(parents=True, exist_ok=True)
            (dump / name).write_text(text, encoding="utf-8")

    target = tvm.target.Target(isa.target())
    show("0-graph.py", module.script())
    with target:
        for number, (name, passes) in enumerate(PHASES, 1):
            module = tvm.transform.Sequential(passes())(module)
            show(f"{number}-{name}.py", module.script())
    with tvm.transform.PassContext(disabled_pass=UNNEEDED, config={"tirx.disable_cse_tir": True}):
        executable = relax.build(module, target, relax_pipeline=tvm.transform.Sequential([]))
    if dump is not None:
        library = next(m for m in executable.mod.imports if m.kind == "llvm")
        show(f"{isa.name}.s", library.inspect_source("asm"))
    executable.export_library(str(out), fcompile=_linker(isa))


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

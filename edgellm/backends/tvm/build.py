"""Writing a bundle's parameters and libraries."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgellm.backends.base import BuildPlan, Progress
from edgellm.backends.tvm.compilation import Task, compiling
from edgellm.backends.tvm.executor import library_name
from edgellm.backends.tvm.weights import Index, Writer, write_index
from edgellm.compile.heads import cache_types
from edgellm.compile.isa import ISAS, default_system, for_system
from edgellm.compile.job import Job, Request, kernel_config
from edgellm.compile.parameters import Parameter, is_norm, parameters
from edgellm.machine import system_name
from edgellm.quantize import int4, int8
from edgellm.quantize.cpu_layout import BLOCK, pack, pack_floats, run_inputs
from edgellm.quantize.formats import BITS, ZERO, padded
from edgellm.resources import cache_dir

if TYPE_CHECKING:
    from edgellm.checkpoint import Checkpoint

Float32s = NDArray[np.float32]
STEP_TOKENS = 256
_ROWS = 1 << 11
"""Rows of a matrix that are read, quantized and packed at a time."""


def write_model(checkpoint: Checkpoint, plan: BuildPlan, out: Path, progress: Progress) -> None:
    """Write weights, index and one library for each instruction set of the target into `out`.

    The libraries compile in processes of their own while this one quantizes.
    """
    config, bits = checkpoint.config, BITS[plan.quant]
    system = plan.system or default_system(plan.target, system_name())
    isas = [for_system(isa, plan.target, system) for isa in ISAS[plan.target]]
    caches = cache_types(plan.quant)
    jobs = [Job(kernel_config(config), isa, plan.quant, STEP_TOKENS, caches) for isa in isas]
    tasks = [library_task(job, out / library_name(job.isa.name), plan.dump) for job in jobs]
    total = checkpoint.weights.total_bytes()
    done = 0
    with compiling(tasks) as compilation:
        with Writer(out) as writer:
            for parameter in parameters(config):
                writer.add(parameter.name, _make(checkpoint, parameter, bits))
                done += sum(checkpoint.weights.nbytes(source) for source in parameter.sources)
                progress("convert", min(done, total), total)
                compilation.poll()
        compilation.wait(partial(progress, "compile"))
    names = tuple(isa.name for isa in isas)
    index = Index(names, plan.quant, caches, STEP_TOKENS, tuple(writer.entries))
    write_index(out, index)


def library_task(job: Job, out: Path, dump: Path | None = None) -> Task:
    """Compile the library `out`.

    Args:
        dump: a directory that receives a folder for each instruction set with its phases; the cache is not
            asked then.
    """
    phases = str(dump.resolve() / job.isa.name) if dump is not None else None
    return Task(
        f"for {job.isa.name}",
        "edgellm.compile.job",
        msgspec.json.encode(Request(job, str(out.resolve()), phases)),
        cache_dir("libraries") / f"{job.key()}.so",
        read=out.read_bytes,
        write=out.write_bytes,
        ask=dump is None,
    )


def _make(checkpoint: Checkpoint, parameter: Parameter, bits: int) -> NDArray[np.uint8] | Float32s:
    if parameter.kind == "vector":
        return _vector(checkpoint, parameter)
    parts = [_matrix(checkpoint, source, parameter, bits) for source in parameter.sources]
    if parameter.interleaved:
        blocks, *rest = parts[0].shape
        return np.stack(parts, axis=1).reshape(len(parts) * blocks, *rest)
    return np.concatenate(parts) if len(parts) > 1 else parts[0]


def _vector(checkpoint: Checkpoint, parameter: Parameter) -> Float32s:
    parts = [checkpoint.weights.read(source) for source in parameter.sources]
    if is_norm(parameter) and checkpoint.config.norm_adds_one:
        parts = [part + np.float32(1) for part in parts]
    if parameter.interleaved:
        parts = [np.pad(part, (0, parameter.source_rows - len(part))).reshape(-1, BLOCK) for part in parts]
        return np.stack(parts, axis=1).ravel()
    values = np.concatenate(parts)
    return np.pad(values, (0, parameter.rows - len(values)))


def _matrix(checkpoint: Checkpoint, source: str, parameter: Parameter, bits: int) -> NDArray[np.uint8]:
    """One source, packed; its rows padded to whole blocks."""
    weights = checkpoint.weights
    rows, columns = weights.shape(source)
    wide = padded(parameter.columns, run_inputs(bits))
    pieces = []
    for start in range(0, rows, _ROWS):
        weight = weights.read(source, slice(start, min(rows, start + _ROWS)))
        pieces.append(_packed(np.pad(weight, ((0, 0), (0, wide - columns))), bits))
    if missing := (parameter.source_rows or padded(rows, BLOCK)) - padded(rows, BLOCK):
        pieces.append(_packed(np.zeros((missing, wide), np.float32), bits))
    return np.concatenate(pieces) if len(pieces) > 1 else pieces[0]


def _packed(weight: Float32s, bits: int) -> NDArray[np.uint8]:
    if bits not in ZERO:
        return pack_floats(weight, bits)
    codes, scales = (int4.quantize if bits == 4 else int8.quantize_groups)(weight)
    return pack(codes, scales, bits)


assert _ROWS % BLOCK == 0

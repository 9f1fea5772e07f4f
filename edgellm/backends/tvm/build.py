"""Writing a bundle's parameters and libraries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgellm.backends.base import BuildPlan, Progress
from edgellm.backends.tvm.executor import library_name
from edgellm.backends.tvm.libraries import compiling
from edgellm.backends.tvm.weights import Index, Writer, write_index
from edgellm.compile.heads import Heads
from edgellm.compile.isa import ISAS
from edgellm.compile.job import Job
from edgellm.compile.parameters import Parameter, is_norm, parameters
from edgellm.quantize import int4, int8
from edgellm.quantize.cpu_layout import BLOCK, RUN, pack, padded

if TYPE_CHECKING:
    from edgellm.checkpoint import Checkpoint

Float32s = NDArray[np.float32]
BITS = {"int4": 4, "int8": 8}
STEP_TOKENS = 256
_ROWS = 1 << 11
"""Rows of a matrix that are read, quantized and packed at a time."""


def write_model(checkpoint: Checkpoint, plan: BuildPlan, out: Path, progress: Progress) -> None:
    """Write weights, index and one library for each instruction set of the target into `out`.

    The libraries compile in processes of their own while this one quantizes.
    """
    config, bits, isas = checkpoint.config, BITS[plan.quant], ISAS[plan.target]
    jobs = [(Job(config, isa, bits, STEP_TOKENS), out / library_name(isa.name)) for isa in isas]
    total = checkpoint.weights.total_bytes()
    done = 0
    with compiling(jobs, plan.dump) as compilation:
        with Writer(out) as writer:
            for parameter in parameters(config):
                writer.add(parameter.name, _make(checkpoint, parameter, bits))
                done += sum(checkpoint.weights.nbytes(source) for source in parameter.sources)
                progress("convert", min(done, total), total)
                compilation.poll()
        compilation.wait(lambda ready, jobs: progress("compile", ready, jobs))
    heads = Heads(config.num_heads, config.num_kv_heads, config.head_dim, config.rope.dim)
    names = tuple(isa.name for isa in isas)
    write_index(out, Index(names, bits, STEP_TOKENS, heads.item_tokens, tuple(writer.entries)))


def _make(checkpoint: Checkpoint, parameter: Parameter, bits: int) -> NDArray[np.uint8] | Float32s:
    if parameter.kind == "vector":
        return _vector(checkpoint, parameter)
    parts = [_quantized(checkpoint, source, parameter, bits) for source in parameter.sources]
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


def _quantized(checkpoint: Checkpoint, source: str, parameter: Parameter, bits: int) -> NDArray[np.uint8]:
    """One source, packed; its rows padded to whole blocks."""
    weights = checkpoint.weights
    rows, columns = weights.shape(source)
    pieces = []
    step = rows if weights.adapted(source) else _ROWS
    for start in range(0, rows, step):
        weight = weights.read(source, slice(start, min(rows, start + step)))
        weight = np.pad(weight, ((0, 0), (0, parameter.columns - columns)))
        codes, scales = (int4.quantize if bits == 4 else int8.quantize_groups)(weight)
        pieces.append(pack(codes, scales, bits))
    if missing := (parameter.source_rows or padded(rows, BLOCK)) - padded(rows, BLOCK):
        shape = (missing, parameter.columns)
        pieces.append(
            pack(np.zeros(shape, np.int8), np.zeros((missing, parameter.columns // 32), np.float16), bits)
        )
    return np.concatenate(pieces) if len(pieces) > 1 else pieces[0]


assert _ROWS % BLOCK == 0 and RUN % 32 == 0

"""Bundles for GPUs: programs, and weights that all of them share."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from numpy.typing import NDArray

from edgellm.backends.base import BuildPlan, Built, LoadOptions, Progress
from edgellm.backends.tvm.compilation import Task, compiling
from edgellm.bundle.model_config import ModelConfig
from edgellm.errors import MissingDependencyError, UsageError
from edgellm.resources import cache_dir

if TYPE_CHECKING:
    from edgellm.backends.executor import StepExecutor
    from edgellm.bundle import Bundle
    from edgellm.checkpoint import Checkpoint
    from edgellm.compile.gpu.job import Job
    from edgellm.compile.plan.limits import Device

QUANTS = ("int4", "int8", "fp16", "fp32")
DEFAULT_MAX_BATCH = 8
_RUNTIME_BYTES = 100 << 20
_SHAPES = (("hidden_size", 64), ("head_dim", 8))


def refuse(config: ModelConfig, plan: BuildPlan) -> str | None:
    """Why this cannot be built for a GPU, with what can; None if it can."""
    if plan.quant not in QUANTS:
        return f"--quant {plan.quant} is not one of the GPU programs'; they have {', '.join(QUANTS)}"
    for name, multiple in _SHAPES:
        if getattr(config, name) % multiple:
            return f"{name} {getattr(config, name)} is no multiple of {multiple}, which GPU kernels need"
    if config.num_heads * config.head_dim % 32:
        return (
            f"num_attention_heads x head_dim is {config.num_heads * config.head_dim}, no multiple of 32, "
            "which GPU kernels need"
        )
    return None


def is_program(directory: Path) -> bool:
    """Whether a bundle's folder holds programs for GPUs."""
    from edgellm.backends.plan.weights import TABLE_NAME

    return (directory / TABLE_NAME).is_file()


def build(checkpoint: Checkpoint, plan: BuildPlan, device: Device, out: Path, progress: Progress) -> Built:
    """Write the device's programs, lowered in processes of their own, and the weights meanwhile.

    Raises:
        MissingDependencyError: what compiles CUDA kernels is not installed.
    """
    from edgellm.backends.plan.weights import write_weights
    from edgellm.backends.tvm.gpu_weights import make
    from edgellm.compile.gpu.job import Job
    from edgellm.quantize.formats import BITS

    if any(one.startswith("cuda-") for one in device.programs) and find_spec("ziglang") is None:
        raise MissingDependencyError(
            "CUDA kernels are compiled by the package ziglang: pip install 'edgellm[tvm]'"
        )
    config = checkpoint.config
    tasks = [
        _program_task(Job(config, plan.quant, program, device.limits, plan.context), out / program)
        for program in device.programs
    ]
    total = checkpoint.weights.total_bytes()
    done = 0
    with compiling(tasks) as compilation:

        def buffers() -> Iterator[tuple[str, NDArray[Any]]]:
            nonlocal done
            for parameter, arrays in make(checkpoint, BITS[plan.quant], device.limits.binding_bytes):
                yield from arrays
                done += sum(checkpoint.weights.nbytes(source) for source in parameter.sources)
                progress("convert", min(done, total), total)
                compilation.poll()

        weight_bytes = write_weights(out, buffers())
        compilation.wait(partial(progress, "compile"))
    return Built(
        backend_version=importlib.metadata.version("apache-tvm"),
        batching="step",
        weight_bytes=weight_bytes,
        # Of the best program; those in fp32 have a larger cache, which their plans tell.
        kv_bytes_per_token=config.kv_bytes_per_token(4 if device.programs[0].endswith("fp32") else 2),
        runtime_bytes=_RUNTIME_BYTES,
    )


def _program_task(job: Job, out: Path) -> Task:
    """Write a program into the new folder `out`."""
    from edgellm.compile.gpu.job import Request

    def read() -> bytes:
        return msgspec.msgpack.encode({file.name: file.read_bytes() for file in sorted(out.iterdir())})

    def write(data: bytes) -> None:
        out.mkdir(parents=True)
        for name, text in msgspec.msgpack.decode(data, type=dict[str, bytes]).items():
            (out / Path(name).name).write_bytes(text)

    request = msgspec.json.encode(Request(job, str(out.resolve())))
    entry = cache_dir("programs") / f"{job.key()}.msgpack"
    return Task(job.program, "edgellm.compile.gpu.job", request, entry, read, write)


def load(bundle: Bundle, directory: Path, options: LoadOptions) -> StepExecutor:
    """Open an executor on a GPU of this machine."""
    from edgellm.backends.plan.open import open_executor

    if options.kv is not None:
        raise UsageError(
            f"--kv {options.kv}: the cache of a GPU bundle has the type of its kernels; leave it out"
        )
    manifest = bundle.manifest
    return open_executor(
        directory, manifest.model, manifest.memory, context=options.context_within(manifest.context),
        max_batch=options.max_batch, default_batch=DEFAULT_MAX_BATCH, planned=options.planned,
    )  # fmt: skip

"""Bundles for GPUs: programs, and weights that all of them share."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from numpy.typing import NDArray

from edgellm.backends.base import BuildPlan, Built, LoadOptions, Progress
from edgellm.backends.cpu import compute_threads
from edgellm.backends.tvm.child import Child
from edgellm.bundle.model_config import ModelConfig

if TYPE_CHECKING:
    from edgellm.backends.executor import StepExecutor
    from edgellm.bundle import Bundle
    from edgellm.checkpoint import Checkpoint
    from edgellm.compile.plan.limits import Device

QUANTS = ("int4", "int8", "fp16", "fp32")
DEFAULT_MAX_BATCH = 8
_RUNTIME_BYTES = 100 << 20
_POLL_SECONDS = 0.02
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
    """Write the device's programs, lowered in processes of their own, and the weights meanwhile."""
    from edgellm.backends.plan.weights import write_weights
    from edgellm.backends.tvm.gpu_weights import make
    from edgellm.compile.gpu.job import Request
    from edgellm.quantize.formats import BITS

    config = checkpoint.config
    waiting = [
        Request(config, plan.quant, program, device.limits, plan.context, str((out / program).resolve()))
        for program in device.programs
    ]
    children: list[Child] = []

    def poll() -> int:
        """Start what waits and collect what has ended; programs still to come."""
        children[:] = [child for child in children if not child.done()]
        while waiting and len(children) < compute_threads():
            request = waiting.pop(0)
            children.append(Child("edgellm.compile.gpu.job", msgspec.json.encode(request), request.program))
        return len(children) + len(waiting)

    total = checkpoint.weights.total_bytes()
    done = 0
    try:
        poll()

        def buffers() -> Iterator[tuple[str, NDArray[Any]]]:
            nonlocal done
            for parameter, arrays in make(checkpoint, BITS[plan.quant], device.limits.binding_bytes):
                yield from arrays
                done += sum(checkpoint.weights.nbytes(source) for source in parameter.sources)
                progress("convert", min(done, total), total)
                poll()

        weight_bytes = write_weights(out, buffers())
        while left := poll():
            progress("compile", len(device.programs) - left, len(device.programs))
            time.sleep(_POLL_SECONDS)
        progress("compile", len(device.programs), len(device.programs))
    finally:
        for child in children:
            child.stop()
    return Built(
        backend_version=importlib.metadata.version("apache-tvm"),
        batching="step",
        weight_bytes=weight_bytes,
        kv_bytes_per_token=config.kv_bytes_per_token(4 if device.programs[0].endswith("fp32") else 2),
        runtime_bytes=_RUNTIME_BYTES,
    )


def load(bundle: Bundle, directory: Path, options: LoadOptions) -> StepExecutor:
    """Open an executor on a GPU of this machine."""
    from edgellm.backends.plan.open import open_executor

    manifest = bundle.manifest
    return open_executor(
        directory, manifest.model, manifest.memory, context=options.context_within(manifest.context),
        max_batch=options.max_batch, default_batch=DEFAULT_MAX_BATCH, planned=options.planned,
    )  # fmt: skip

"""The TVM backend: what it builds and loads. Heavy modules are imported only when something is built or
loaded.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edgellm.backends.base import BuildPlan, Built, LoadOptions, Progress
from edgellm.backends.memory import plan_blocks
from edgellm.backends.tvm import gpu
from edgellm.bundle.model_config import ModelConfig
from edgellm.errors import MissingDependencyError, UsageError
from edgellm.machine import read_memory

if TYPE_CHECKING:
    from edgellm.backends.executor import StepExecutor
    from edgellm.bundle import Bundle
    from edgellm.checkpoint import Checkpoint

QUANTS = ("int4", "int8", "fp16", "fp32")
DEFAULT_MAX_BATCH = 16
_HEAD_MULTIPLE = 16
_INSTALL = "pip install 'edgellm[tvm]'"
_RUNTIME_BYTES = 120 << 20
"""Interpreter, libraries and the buffers of a step."""


class TvmBackend:
    """int4, int8, fp16 and fp32 on CPUs."""

    name = "tvm"

    def refuse(self, config: ModelConfig, plan: BuildPlan) -> str | None:
        """Why this cannot be built, with what can; None if it can. Reads nothing."""
        if plan.device is not None:
            return gpu.refuse(config, plan)
        if plan.quant not in QUANTS:
            return (
                f"--quant {plan.quant} is not one of the TVM backend's on a CPU; it has {', '.join(QUANTS)}"
            )
        if config.head_dim % _HEAD_MULTIPLE:
            return (
                f"head_dim {config.head_dim} is no multiple of {_HEAD_MULTIPLE}; "
                "--backend ctranslate2 takes any"
            )
        if config.hidden_size % 32:
            return f"hidden_size {config.hidden_size} is no multiple of 32; --backend ctranslate2 takes any"
        return None

    def missing(self) -> str | None:
        """What to install before this works; None if ready."""
        if importlib.util.find_spec("tvm") is None:
            return f"the TVM backend needs the package apache-tvm: {_INSTALL}"
        return None

    def build(self, checkpoint: Checkpoint, plan: BuildPlan, out: Path, progress: Progress) -> Built:
        """Quantize, compile for every instruction set of the target, and write the files into `out`.

        Raises:
            MissingDependencyError: TVM is not installed. CheckpointError: a tensor cannot be read.
        """
        self._require()
        if plan.device is not None:
            return gpu.build(checkpoint, plan, plan.device, out, progress)
        from edgellm.backends.tvm.build import write_model
        from edgellm.backends.tvm.weights import WEIGHTS_NAME
        from edgellm.compile.heads import cache_types, heads_of

        heads = heads_of(checkpoint.config, cache_types(plan.quant)[0])
        write_model(checkpoint, plan, out, progress)
        return Built(
            backend_version=importlib.metadata.version("apache-tvm"),
            batching="step",
            weight_bytes=(out / WEIGHTS_NAME).stat().st_size,
            kv_bytes_per_token=checkpoint.config.num_layers * heads.token_bytes,
            runtime_bytes=_RUNTIME_BYTES,
        )

    def load(self, bundle: Bundle, options: LoadOptions) -> StepExecutor:
        """Open an executor over a bundle of this backend.

        Raises:
            MissingDependencyError: TVM is not installed.
            UsageError: an option is out of range. UnsupportedError: it does not fit into memory.
            BundleError: the model cannot be loaded.
        """
        directory = bundle.path / self.name
        if gpu.is_program(directory):
            return gpu.load(bundle, directory, options)
        self._require()
        from edgellm.backends.cpu import compute_threads
        from edgellm.backends.tvm.executor import TvmExecutor
        from edgellm.backends.tvm.weights import INDEX_NAME, read_index
        from edgellm.compile.heads import BLOCK_SIZE, heads_of

        manifest = bundle.manifest
        context = options.context_within(manifest.context)
        max_batch = options.max_batch or DEFAULT_MAX_BATCH
        index = read_index(directory / INDEX_NAME)
        for cache in index.caches:
            if options.kv in (None, cache):
                break
        else:
            offered = " or ".join(f"--kv {cache}" for cache in index.caches)
            raise UsageError(f"--kv {options.kv} cannot go with {index.quant} weights, only {offered}")
        token_bytes = manifest.model.num_layers * heads_of(manifest.model, cache).token_bytes
        memory = plan_blocks(
            msgspec.structs.replace(manifest.memory, kv_bytes_per_token=token_bytes),
            context=context,
            max_batch=options.max_batch,
            default_batch=DEFAULT_MAX_BATCH,
            block_size=BLOCK_SIZE,
            step=step_bytes(manifest.model, index.step_tokens, max_batch),
            available=read_memory().available,
        )
        options.planned(memory)
        return TvmExecutor(
            directory,
            manifest.model,
            built_context=manifest.context,
            context=context,
            max_batch=max_batch,
            threads=options.threads or compute_threads(),
            memory=memory,
            cache=cache,
        )

    def _require(self) -> None:
        if missing := self.missing():
            raise MissingDependencyError(missing)


def step_bytes(config: ModelConfig, tokens: int, max_batch: int) -> int:
    """Buffers of a step of `tokens`: what a layer makes of each of them, and the logits of a batch."""
    rows = min(tokens, max_batch)
    heads = config.num_heads * config.head_dim
    values = 8 * config.hidden_size + 4 * config.intermediate_size + 4 * heads
    return 4 * (tokens * values + rows * config.vocab_size)


backend = TvmBackend()

"""The CTranslate2 backend. Heavy modules are imported only when something is built or loaded."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING

from edgellm.backends.base import BuildPlan, Built, LoadOptions, Progress
from edgellm.backends.ctranslate2.window import active_window
from edgellm.backends.memory import plan_cohorts
from edgellm.bundle.model_config import ModelConfig
from edgellm.errors import MissingDependencyError, UsageError
from edgellm.machine import read_memory

if TYPE_CHECKING:
    from edgellm.backends.ctranslate2.executor import CTranslate2Executor
    from edgellm.bundle import Bundle
    from edgellm.checkpoint import Checkpoint

QUANTS = ("int8", "fp32")
DEFAULT_MAX_BATCH = 16
DEFAULT_WORKERS = 2
_INSTALL = "pip install 'edgellm[ctranslate2]'"
_OLDEST = (4, 8, 5)
_RUNTIME_BYTES = 160 << 20
"""Measured: interpreter, libraries and small buffers with a model of a few megabytes loaded."""


class CTranslate2Backend:
    """int8 and fp32 on CPUs, through CTranslate2."""

    name = "ctranslate2"

    def refuse(self, config: ModelConfig, plan: BuildPlan) -> str | None:
        """Why this cannot be built, with what can; None if it can. Reads nothing."""
        if plan.quant not in QUANTS:
            return f"--quant {plan.quant} is not one of CTranslate2's on a CPU; the nearest is int8"
        if config.qk_norm and config.rope.dim != config.head_dim:
            return (
                "partial_rotary_factor below 1 together with query and key norms cannot be expressed in "
                "CTranslate2; whole heads can be rotated (partial_rotary_factor 1)"
            )
        if config.num_heads >= 1 << 15:
            return f"num_attention_heads {config.num_heads} is beyond CTranslate2's limit of {(1 << 15) - 1}"
        return None

    def missing(self) -> str | None:
        """What to install before this works; None if ready."""
        if importlib.util.find_spec("ctranslate2") is None:
            return f"the CTranslate2 backend needs the package ctranslate2: {_INSTALL}"
        version = importlib.metadata.version("ctranslate2")
        if tuple(int(part) for part in re.findall(r"\d+", version)[:3]) < _OLDEST:
            return f"ctranslate2 {version} is too old; {_INSTALL} installs one that works"
        return None

    def build(self, checkpoint: Checkpoint, plan: BuildPlan, out: Path, progress: Progress) -> Built:
        """Write the model into the existing directory `out`, a few rows of a matrix at a time.

        Raises:
            MissingDependencyError: ctranslate2 is not installed.
            CheckpointError: a tensor cannot be read or holds a NaN.
        """
        self._require()
        from edgellm.backends.ctranslate2.convert import convert

        convert(checkpoint, plan, out, progress)
        config = checkpoint.config
        return Built(
            backend_version=importlib.metadata.version("ctranslate2"),
            batching="request",
            weight_bytes=(out / "model.bin").stat().st_size,
            kv_bytes_per_token=kv_bytes_per_token(config),
            runtime_bytes=_RUNTIME_BYTES + prefill_bytes(config, plan.context),
        )

    def load(self, bundle: Bundle, options: LoadOptions) -> CTranslate2Executor:
        """Open an executor over a bundle of this backend.

        Raises:
            MissingDependencyError: ctranslate2 is not installed.
            UsageError: an option is out of range. UnsupportedError: it does not fit into memory.
            BundleError: the model cannot be loaded.
        """
        if options.kv is not None:
            raise UsageError(
                f"--kv {options.kv}: CTranslate2 decides itself what its cache holds; "
                "a bundle built with --backend tvm can be told"
            )
        self._require()
        manifest = bundle.manifest
        memory = plan_cohorts(
            manifest.memory,
            context=options.context_within(manifest.context),
            places=(options.workers or DEFAULT_WORKERS) * (options.max_batch or DEFAULT_MAX_BATCH),
            available=read_memory().available,
        )
        options.planned(memory)
        executor = load_directory(
            bundle.path / self.name, manifest.model, manifest.quant, manifest.context, options
        )
        executor.memory = memory
        return executor

    def _require(self) -> None:
        if missing := self.missing():
            raise MissingDependencyError(missing)


def load_directory(
    directory: Path, config: ModelConfig, quant: str, context: int, options: LoadOptions
) -> CTranslate2Executor:
    """An executor over what `build` wrote into `directory` for `context` tokens."""
    from edgellm.backends.cpu import compute_threads
    from edgellm.backends.ctranslate2.executor import CTranslate2Executor

    return CTranslate2Executor(
        directory,
        quant=quant,
        context=options.context or context,
        window=active_window(config, context),
        vocab_size=config.vocab_size,
        threads=options.threads or compute_threads(),
        workers=options.workers or DEFAULT_WORKERS,
        max_batch=options.max_batch or DEFAULT_MAX_BATCH,
    )


def kv_bytes_per_token(config: ModelConfig) -> int:
    """CTranslate2 keeps float32 keys and values for every query head: shared ones are copied."""
    return 2 * config.num_layers * config.num_heads * config.head_dim * 4


def prefill_bytes(config: ModelConfig, context: int) -> int:
    """Buffers of one layer while a prompt that fills the context goes in: scores, MLP, projections."""
    tokens = active_window(config, context) or context  # no more go in at once
    scores = config.num_heads * tokens * tokens
    per_token = 3 * config.intermediate_size + 4 * config.hidden_size
    return 4 * (scores + per_token * tokens)


backend = CTranslate2Backend()

"""The step executor: a compiled `forward` on TVM's virtual machine, with the small runtime libraries only."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgellm.backends.executor import ExecutorLimits, Float32s, StepInput
from edgellm.backends.memory import MemoryPlan
from edgellm.backends.tvm.isa import pick_isa
from edgellm.backends.tvm.items import items, slots
from edgellm.backends.tvm.system import check_system
from edgellm.backends.tvm.weights import INDEX_NAME, WEIGHTS_NAME, map_weights, read_index
from edgellm.bundle.model_config import ModelConfig, Rope
from edgellm.compile.heads import BLOCK_SIZE, CacheType, heads_of
from edgellm.compile.rotary import attention_factor, frequencies
from edgellm.errors import BundleError, ExecutorError

_ALIGNMENT = 64


def library_name(isa: str) -> str:
    """File of the code for one instruction set."""
    return f"lib-{isa}.so"


class TvmExecutor:
    """Runs steps. Parameters stay in the mapped file; the cache is one array of blocks for each layer's keys
    and one for its values, and takes memory only where it has been written."""

    mode: Literal["step"] = "step"

    def __init__(
        self,
        directory: Path,
        config: ModelConfig,
        *,
        built_context: int,
        context: int,
        max_batch: int,
        threads: int,
        memory: MemoryPlan | None = None,
        cache: CacheType | None = None,
    ) -> None:
        """Load what `build` wrote into `directory`.

        Args:
            built_context: tokens of a sequence that the bundle was built for (it decides on rotary tables).
            context: tokens that one sequence may hold here. threads: of a step.
            cache: what it holds; None: the default of the bundle's quantization.
            memory: says how many blocks the cache has; None: `max_batch` whole contexts.
        """
        index = read_index(directory / INDEX_NAME)
        cache = cache or index.caches[0]
        self.isa = pick_isa(index.isas)
        library = directory / library_name(self.isa)
        check_system(library)
        tvm = _import_runtime(threads)
        try:
            machine = tvm.runtime.vm.VirtualMachine(_load(tvm, library), tvm.cpu())
            self._forward = machine[f"forward_{cache}"]
        except Exception as error:
            raise BundleError(f"TVM cannot load {library}: {error}; build the bundle again") from None
        self._machine = machine
        self._tensor = tvm.runtime.tensor
        self._threads = threads
        self._config = config
        self.memory = memory
        num_blocks = memory.blocks if memory is not None else max_batch * -(-context // BLOCK_SIZE)
        self.limits = ExecutorLimits(
            vocab_size=config.vocab_size,
            context=context,
            max_batch=max_batch,
            block_size=BLOCK_SIZE,
            num_blocks=num_blocks,
            max_step_tokens=index.step_tokens,
        )
        from_dlpack = tvm.runtime.from_dlpack
        weights = map_weights(directory / WEIGHTS_NAME, index)
        ropes = _rotary_tables(config, built_context, context)
        self._heads = heads_of(config, cache)
        shape = self._heads.cache_shape(num_blocks)
        blocks = [_zeros(shape, self._heads.dtype) for _ in range(2 * config.num_layers)]
        self._arrays = (ropes, blocks, weights)
        """The memory behind the tensors below."""
        self._packs = [[from_dlpack(array) for array in pack] for pack in self._arrays]
        self._packs = [tvm.runtime.convert(pack) for pack in self._packs]

    def step(self, step: StepInput) -> Float32s:
        """See `StepExecutor.step`."""
        if not len(step.logits_rows):
            rows = np.zeros(1, np.int32)
        else:
            rows = step.logits_rows
        arrays = (
            step.token_ids,
            step.positions,
            slots(step),
            items(step, self._heads, self._threads),
            step.block_tables,
            rows,
        )
        try:
            logits = self._forward(*(self._tensor(array) for array in arrays), *self._packs)
        except Exception as error:
            raise ExecutorError(f"a step failed in TVM: {error}") from error
        rows_of_all: Float32s = np.asarray(np.from_dlpack(logits), np.float32)
        return rows_of_all[: len(step.logits_rows), : self.limits.vocab_size]

    def copy_block(self, source: int, target: int) -> None:
        """See `StepExecutor.copy_block`."""
        for array in self._arrays[1]:
            array[target] = array[source]

    def close(self) -> None:
        """Let go of the model's memory."""
        self._packs = []
        self._arrays = ([], [], [])
        self._forward = self._machine = None


_loaded: dict[Path, tuple[int, int, int]] = {}
"""Libraries that this process has loaded: the file that stood at the path then."""


def _load(tvm: Any, library: Path) -> Any:
    """Load a library. The system's loader knows libraries by their paths, and would give a process that has
    built its bundle anew the old one again: such a file is loaded by another name.
    """
    path, found = library.resolve(), library.stat()
    file = (found.st_dev, found.st_ino, found.st_mtime_ns)
    if _loaded.setdefault(path, file) == file:
        return tvm.runtime.load_module(str(path))
    with tempfile.TemporaryDirectory(prefix="edgellm-", ignore_cleanup_errors=True) as folder:
        other = Path(folder) / library.name
        shutil.copyfile(path, other)
        return tvm.runtime.load_module(str(other))


def _import_runtime(threads: int) -> Any:
    """TVM without its compiler, unless that is in use already (a process that has just built a bundle)."""
    # Read when the pool of the calling thread starts. Pinned threads could meet those of other programs.
    os.environ["TVM_NUM_THREADS"] = str(threads)
    os.environ.setdefault("TVM_BIND_THREADS", "0")
    # How long an idle worker spins before it sleeps. TVM's default takes a core for 150 ms after every
    # answer; these 5 ms cover the pauses between steps.
    os.environ.setdefault("TVM_THREAD_POOL_SPIN_COUNT", "10000")
    # Read by the import alone. Programs that this process starts later shall be able to compile.
    kept = os.environ.get("TVM_USE_RUNTIME_LIB")
    os.environ.setdefault("TVM_USE_RUNTIME_LIB", "1")
    try:
        import tvm
        import tvm.runtime.vm
    finally:
        if kept is None:
            del os.environ["TVM_USE_RUNTIME_LIB"]
    return tvm


def _zeros(shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Zeros, aligned as the kernels expect; pages are taken when they are first written."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.zeros(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def _rotary_tables(config: ModelConfig, built_context: int, context: int) -> list[Float32s]:
    """cosines, sines float32[context, dim / 2] of full-attention layers, then of sliding ones if they
    differ.
    """
    tables: list[Float32s] = []
    for rope in (config.rope, config.local_rope):
        if rope is not None:
            tables += _table(rope, built_context, context)
    return tables


def _table(rope: Rope, built_context: int, context: int) -> list[Float32s]:
    angles = np.outer(np.arange(context, dtype=np.float64), frequencies(rope, built_context))
    factor = attention_factor(rope)
    result = []
    for function in (np.cos, np.sin):
        table = np.empty((context * angles.shape[1] + _ALIGNMENT,), np.float32)
        start = -table.ctypes.data % _ALIGNMENT // 4
        values = table[start : start + angles.size].reshape(angles.shape)
        np.multiply(function(angles), factor, out=values, casting="unsafe")
        result.append(values)
    return result

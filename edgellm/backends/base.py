"""What a backend is: it says what it can build, builds it, and opens an executor over the result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edgellm.bundle.manifest import BatchingMode
from edgellm.bundle.model_config import ModelConfig
from edgellm.errors import UsageError

if TYPE_CHECKING:
    from edgellm.backends.executor import Executor
    from edgellm.backends.memory import MemoryPlan
    from edgellm.bundle import Bundle
    from edgellm.checkpoint import Checkpoint
    from edgellm.compile.plan.limits import Device

Progress = Callable[[str, int, int], None]
"""(stage, done, in all): "convert" in bytes, called after each tensor; "compile" in libraries."""


@dataclass(frozen=True)
class BuildPlan:
    """What to build: decided before any work, so that a refusal costs nothing."""

    target: str
    quant: str
    context: int
    system: str = ""
    """linux, macos or windows, for backends whose code depends on it; "" for this machine's, or the first
    that the target has."""
    device: Device | None = None
    """Of GPU targets: what programs to write, and within which limits."""
    kernels: str | None = None
    """Of GPU targets: the kind of kernels, unless it is the portable one."""
    dump: Path | None = None
    """A directory for what the compiler makes on the way."""


@dataclass(frozen=True)
class Built:
    """What a backend says about the files it wrote."""

    backend_version: str
    batching: BatchingMode
    weight_bytes: int
    """Bytes the weights take in memory when loaded."""
    kv_bytes_per_token: int
    runtime_bytes: int
    """Bytes beyond weights and cache: libraries, buffers."""


@dataclass(frozen=True)
class LoadOptions:
    """How to open an executor. None means: the backend's choice for this machine."""

    threads: int | None = None
    max_batch: int | None = None
    context: int | None = None
    workers: int | None = None
    kv: str | None = None
    """What the key/value cache holds."""
    on_memory: Callable[[MemoryPlan], None] | None = None
    """Hears what will be taken, before anything is loaded."""

    def planned(self, memory: MemoryPlan) -> MemoryPlan:
        """Tell whoever asked to hear of it."""
        if self.on_memory is not None:
            self.on_memory(memory)
        return memory

    def context_within(self, built: int) -> int:
        """Tokens that a sequence may hold, of a bundle that was built for `built`.

        Raises:
            UsageError: more are asked for.
        """
        if self.context is not None and self.context > built:
            raise UsageError(
                f"a context of {self.context} was asked for and the bundle holds {built}; "
                f"build it again with --context {self.context}"
            )
        return self.context or built


class Backend(Protocol):
    """One way to compile and execute. Modules in `edgellm/backends/` provide one object `backend` each."""

    name: str

    def refuse(self, config: ModelConfig, plan: BuildPlan) -> str | None:
        """Why this backend cannot build that, naming the config key and the nearest thing that works;
        None if it can. Cheap: reads no weights and imports no heavy library."""
        ...

    def missing(self) -> str | None:
        """What must be installed before this backend works (one line, with the command); None if ready."""
        ...

    def build(self, checkpoint: Checkpoint, plan: BuildPlan, out: Path, progress: Progress) -> Built:
        """Write the backend's files into the existing directory `out`, tensor by tensor."""
        ...

    def load(self, bundle: Bundle, options: LoadOptions) -> Executor:
        """Open an executor over a bundle of this backend.

        Raises:
            UsageError: an option is out of range. UnsupportedError: it does not fit into memory.
        """
        ...

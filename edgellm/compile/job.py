"""Compiling one library in a process of its own: `python -m edgellm.compile.job`, with a request on stdin.

A process that holds TVM's runtime-only libraries (one that has run a bundle) cannot compile, TVM's memory
goes back to the system with the process, and several libraries compile side by side.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from edgellm.bundle.model_config import ModelConfig, Rope
from edgellm.compile.heads import CacheType
from edgellm.compile.isa import Isa
from edgellm.compile.key import content_key
from edgellm.errors import EdgeLLMError

_COMPILERS = ("apache-tvm", "apache-tvm-ffi", "ziglang")


def kernel_config(config: ModelConfig) -> ModelConfig:
    """`config` without what the graph does not depend on, so that models of one shape share their libraries:
    rotary frequencies are tables given to each step, and what norms add is added to their weights.
    """
    rope, local = (one and Rope(theta=1.0, dim=one.dim) for one in (config.rope, config.local_rope))
    return msgspec.structs.replace(
        config, family="", context_length=0, rope=rope, local_rope=local, norm_adds_one=False,
        attention_scale=config.attention_scale or config.head_dim**-0.5,
    )  # fmt: skip


class Job(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One library to compile.

    Attributes:
        config: the model. isa: instruction set. quant: how weights are stored. max_tokens: of a step.
        caches: what the key/value cache can hold.
    """

    config: ModelConfig
    isa: Isa
    quant: str
    max_tokens: int
    caches: tuple[CacheType, ...]

    def key(self) -> str:
        """Hash of all that the library depends on: the shape, the compilers and this package's own code."""
        return content_key(self, _COMPILERS)


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the process is told: the job, where the library goes, and where its phases are dumped."""

    job: Job
    out: str
    dump: str | None


def run(request: Request) -> None:
    """Compile in this process."""
    from edgellm.compile.graph import build_graph
    from edgellm.compile.pipeline import compile_graph

    job = request.job
    module = build_graph(job.config, job.isa, job.quant, job.caches, max_tokens=job.max_tokens)
    compile_graph(module, job.isa, Path(request.out), dump=Path(request.dump) if request.dump else None)


def main() -> int:
    """The process: 0 if the library was written, 1 with one line on standard error if it was not."""
    try:
        run(msgspec.json.decode(sys.stdin.buffer.read(), type=Request))
    except (EdgeLLMError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

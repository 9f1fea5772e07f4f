"""One engine in a process of its own: `python -m edgellm.bench.worker JSON`.

The argument says what to load. The worker then answers each case it reads on standard input (one JSON
object a line) with a sample on standard output, so that engines can take turns while all stay loaded.
"""

from __future__ import annotations

import sys
from typing import Literal

import msgspec

from edgellm.backends.memory import MemoryPlan
from edgellm.bench.cases import Case, GpuFacts, Runner, measure_long_enough
from edgellm.errors import EdgeLLMError


class WorkerSpec(msgspec.Struct, frozen=True):
    """What a worker loads. `path` is a bundle, a CTranslate2 model directory or a GGUF file; `context` is
    what one sequence may hold, None for all that the bundle allows; `kv` is what a bundle's cache holds.
    """

    kind: Literal["edgellm", "ctranslate2", "llamacpp"]
    path: str
    threads: int | None
    max_batch: int
    context: int | None = None
    kv: str | None = None


class Hello(msgspec.Struct, frozen=True):
    """The worker's first line: what it loaded, or why it could not."""

    name: str = ""
    weight_bytes: int = 0
    gpu: GpuFacts | None = None
    error: str = ""


def load(spec: WorkerSpec) -> Runner:
    """The runner that `spec` names."""
    from edgellm.bench import runners

    if spec.kind == "edgellm":
        return runners.EngineRunner(
            spec.path, spec.threads, spec.max_batch, spec.context, spec.kv, _tell_gpu_memory
        )
    if spec.kind == "ctranslate2":
        return runners.CTranslate2Runner(spec.path, spec.threads)
    return runners.LlamaCppRunner(spec.path, spec.threads)


def _tell_gpu_memory(memory: MemoryPlan) -> None:
    if memory.on_gpu:
        print(*memory.lines(), sep="\n", file=sys.stderr, flush=True)


def main() -> None:
    out = sys.stdout.buffer

    def say(message: msgspec.Struct) -> None:
        out.write(msgspec.json.encode(message) + b"\n")
        out.flush()

    try:
        runner = load(msgspec.json.decode(sys.argv[1], type=WorkerSpec))
    except EdgeLLMError as error:
        say(Hello(error=str(error)))
        return
    say(Hello(runner.name, runner.weight_bytes, runner.gpu))
    for line in sys.stdin.buffer:
        say(measure_long_enough(runner, msgspec.json.decode(line, type=Case)))


if __name__ == "__main__":
    main()

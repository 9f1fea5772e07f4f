"""Writing one program in a process of its own: `python -m edgellm.compile.gpu.job`, a request on stdin."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

import msgspec

from edgellm.bundle.model_config import ModelConfig
from edgellm.compile.key import content_key
from edgellm.compile.plan.limits import DeviceLimits
from edgellm.errors import EdgeLLMError


class Job(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One program: LANGUAGE-ARITHMETIC of a model, its weights stored as `quant`, for one device class."""

    config: ModelConfig
    quant: str
    program: str
    limits: DeviceLimits
    context: int

    def key(self) -> str:
        """Hash of all that the program depends on."""
        compilers = ["apache-tvm", "apache-tvm-ffi"]
        return content_key(self, [*compilers, "ziglang"] if self.program.startswith("cuda-") else compilers)


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to write, into the new folder `out`."""

    job: Job
    out: str


def main() -> int:
    """The process: 0 if the program was written, 1 with one line on standard error if it was not."""
    from edgellm.compile.gpu.program import write_program

    request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
    job = request.job
    language, _, arithmetic = job.program.partition("-")
    try:
        write_program(
            job.config, job.quant, cast(Any, language), cast(Any, arithmetic), job.limits, job.context,
            Path(request.out),
        )  # fmt: skip
    except EdgeLLMError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

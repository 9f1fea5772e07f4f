"""Writing a program: plan and kernels in a folder of their own, the same bytes for the same model."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edgellm.bundle.model_config import ModelConfig
from edgellm.compile.gpu.export import export
from edgellm.compile.gpu.graph import lower
from edgellm.compile.plan.limits import DeviceLimits
from edgellm.compile.plan.plan import FORMAT, Arithmetic, Kernel, Language, Plan

PLAN_NAME = "plan.json"
SUFFIXES: dict[Language, str] = {"wgsl": ".wgsl", "opencl": ".cl", "metal": ".metal"}
MAX_STEP_TOKENS = 256
MAX_LOGITS_ROWS = 64


def write_program(
    config: ModelConfig,
    quant: str,
    language: Language,
    arithmetic: Arithmetic,
    limits: DeviceLimits,
    out: Path,
) -> Plan:
    """Lower a model for one device class and write the program into the new folder `out`.

    Args:
        quant: how weights are stored: int4, int8, fp16 or fp32. arithmetic: what kernels compute in.
    """
    graph = lower(config, quant, arithmetic, limits, max_tokens=MAX_STEP_TOKENS, max_rows=MAX_LOGITS_ROWS)
    out.mkdir(parents=True)
    kernels = []
    for one in graph.kernels:
        source = export(one, language)
        name = one.name + SUFFIXES[language]
        (out / name).write_text(source.text, encoding="utf-8")
        access = tuple(argument.access for argument in one.arguments)
        kernels.append(
            Kernel(one.name, name, source.entry, access, source.scalars, one.threads, one.shared_bytes)
        )
    plan = Plan(
        FORMAT, language, arithmetic, graph.sizes, tuple(graph.buffers), tuple(kernels), tuple(graph.routines)
    )
    (out / PLAN_NAME).write_bytes(msgspec.json.format(msgspec.json.encode(plan), indent=1) + b"\n")
    return plan

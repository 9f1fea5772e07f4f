"""Writing a program: plan and kernels in a folder of their own, the same bytes for the same model."""

from __future__ import annotations

from pathlib import Path

from edgellm.bundle.model_config import ModelConfig
from edgellm.compile.gpu.export import export
from edgellm.compile.gpu.graph import lower
from edgellm.compile.gpu.ptx import to_ptx
from edgellm.compile.plan.assemble import assemble
from edgellm.compile.plan.codec import encode_plan
from edgellm.compile.plan.limits import DeviceLimits
from edgellm.compile.plan.plan import COMPILED_SUFFIX, PLAN_NAME, Arithmetic, Language, Plan, Rotary
from edgellm.compile.rotary import attention_factor, frequencies

MAX_STEP_TOKENS = 256
MAX_LOGITS_ROWS = 64


def write_program(
    config: ModelConfig,
    quant: str,
    language: Language,
    arithmetic: Arithmetic,
    limits: DeviceLimits,
    context: int,
    out: Path,
) -> Plan:
    """Lower a model for one device class and write the program into the new folder `out`.

    Args:
        quant: how weights are stored: int4, int8, fp16 or fp32. arithmetic: what kernels compute in.
        context: tokens that one sequence may hold.
    """
    graph = lower(config, quant, arithmetic, limits, max_tokens=MAX_STEP_TOKENS, max_rows=MAX_LOGITS_ROWS)
    sources = [export(kernel, language) for kernel in graph.kernels]
    plan = assemble(
        graph.kernels, sources, graph.routines, graph.buffers, graph.sizes,
        language=language, arithmetic=arithmetic, rotary=_rotary(config, context),
    )  # fmt: skip
    data = encode_plan(plan)
    out.mkdir(parents=True)
    for kernel, source in zip(plan.kernels, sources, strict=True):
        path = out / kernel.source
        path.write_text(source.text, encoding="utf-8")
        if language == "cuda":
            ptx = to_ptx(source.text, kernel.name, buffers=len(kernel.access), scalars=len(kernel.scalars))
            path.with_suffix(COMPILED_SUFFIX).write_text(ptx, encoding="utf-8")
    (out / PLAN_NAME).write_bytes(data)
    return plan


def _rotary(config: ModelConfig, context: int) -> list[Rotary]:
    """What fills the tables of rotary angles."""
    ropes = (("angles", config.rope), ("local_angles", config.local_rope))
    return [
        Rotary(name, tuple(frequencies(rope, context).tolist()), attention_factor(rope))
        for name, rope in ropes
        if rope is not None
    ]

"""GPU bundles of random weights, without a checkpoint: the sizes, files and program of a real one.

The program is what `edgellm build` would lower for the target; codes and scales are drawn as the plan names
them. What is measured with such a bundle is speed and memory, never quality.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
from make_checkpoint import Shape, config
from numpy.typing import NDArray

from edgellm.backends.plan.weights import write_weights
from edgellm.bundle import Bundle
from edgellm.bundle.manifest import TEMPLATE_NAME, TOKENIZER_NAME, MemoryFacts, Source
from edgellm.bundle.model_config import ModelConfig
from edgellm.bundle.writer import BundleWriter
from edgellm.checkpoint.config import parse_config
from edgellm.compile.plan.codec import decode_plan
from edgellm.compile.plan.plan import PLAN_NAME, Plan
from edgellm.targets import get_target

QUANT = "int4"
_SCALE = 0.02 / 4.6
"""Codes are spread evenly over -8..7, which has a deviation of 4.6; weights get one of 0.02."""
_POOL = 1 << 20
"""Bytes by which buffers may begin later in the bytes that they are all cut from."""


def model_config(shape: Shape) -> ModelConfig:
    """The model of a shape."""
    return parse_config(config(shape))


def write_programs(shape: Shape, target: str, out: Path) -> None:
    """Lower the shape for a target into `out`, one folder for each of its programs. Needs TVM."""
    from edgellm.compile.gpu.program import write_program

    device = get_target(target).device
    assert device is not None, f"{target} is no GPU"
    model = model_config(shape)
    for program in device.programs:
        language, _, arithmetic = program.partition("-")
        write_program(
            model, QUANT, cast(Any, language), cast(Any, arithmetic), device.limits, model.context_length,
            out / program,
        )  # fmt: skip


def write_bundle(shape: Shape, name: str, programs: Path, demo: Bundle, out: Path) -> Bundle:
    """A bundle of the programs in `programs` with random weights, and the demo model's tokenizer.

    Args:
        demo: the demo model's bundle for the same target.
    """
    folders = sorted(path.parent for path in programs.glob(f"*/{PLAN_NAME}"))
    plans = [decode_plan((one / PLAN_NAME).read_bytes(), str(one)) for one in folders]
    model = model_config(shape)
    with BundleWriter(out, force=True, need_bytes=sum(plans[0].weights.values())) as writer:
        writer.add(TOKENIZER_NAME, demo.file(TOKENIZER_NAME).read_bytes())
        writer.add(TEMPLATE_NAME, demo.file(TEMPLATE_NAME).read_bytes())
        inside = writer.folder(demo.manifest.backend)
        for folder in folders:
            (inside / folder.name).mkdir()
            for file in sorted(folder.iterdir()):
                (inside / folder.name / file.name).write_bytes(file.read_bytes())
        weight_bytes = write_weights(inside, _weights(plans[0]))
        manifest = msgspec.structs.replace(
            demo.manifest,
            quant=QUANT,
            model=model,
            context=model.context_length,
            source=Source(f"{name}, random weights"),
            memory=MemoryFacts(weight_bytes, model.kv_bytes_per_token(2), demo.manifest.memory.runtime_bytes),
            files=(),
        )
        return writer.commit(manifest)


def fingerprint(programs: Path) -> str:
    """Of the programs that a bundle was made from, to tell whether one that stands there still is."""
    digest = hashlib.sha256()
    for path in sorted(path for path in programs.rglob("*") if path.is_file()):
        digest.update(
            f"{path.relative_to(programs)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode()
        )
    return digest.hexdigest()


def _weights(plan: Plan) -> Iterator[tuple[str, NDArray[Any]]]:
    """Every buffer of the plan: codes drawn evenly, equal scales, norms of ones."""
    most = max(plan.weights.values()) + _POOL
    codes = np.random.default_rng(0).integers(0, 256, most, np.uint8)
    scales = np.full(most // 2, _SCALE, np.float16).view(np.uint8)
    ones = np.ones(most // 4, np.float32).view(np.uint8)
    for number, (name, size) in enumerate(plan.weights.items()):
        if name.endswith(".w"):
            at = number * 4096 % _POOL
            yield name, codes[at : at + size]
        else:
            yield name, (scales if name.endswith(".s") else ones)[:size]

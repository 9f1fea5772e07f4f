"""What the plans of a GPU bundle say of its programs, without a device."""

from __future__ import annotations

import msgspec

from edgellm.backends.plan.executor import BLOCK_SIZE
from edgellm.backends.plan.launches import buffer_bytes
from edgellm.backends.plan.open import read_plan
from edgellm.bench.traffic import decode_traffic
from edgellm.bundle import Bundle
from edgellm.compile.plan.plan import PLAN_NAME


class ProgramFacts(msgspec.Struct, frozen=True):
    """A program, running one sequence.

    Attributes:
        name: LANGUAGE-ARITHMETIC.
        launches, launches_per_layer, moved_bytes, least_bytes: of a decode step, see `edgellm.bench.traffic`.
        weight_bytes, cache_bytes, step_bytes: of memory: weights, keys and values, and all other buffers.
    """

    name: str
    launches: int
    launches_per_layer: float
    moved_bytes: int
    least_bytes: int
    weight_bytes: int
    cache_bytes: int
    step_bytes: int


def program_facts(bundle: Bundle, context: int) -> list[ProgramFacts]:
    """Of every program of a bundle, [] if it has none.

    Args:
        context: tokens of the sequence, in the step and in memory.

    Raises:
        BundleError: a plan is damaged.
    """
    config = bundle.manifest.model
    found = []
    for path in sorted((bundle.path / bundle.manifest.backend).glob(f"*/{PLAN_NAME}")):
        plan = read_plan(path.parent, config.vocab_size)
        traffic = decode_traffic(plan, config, [context])
        blocks = -(-context // BLOCK_SIZE)
        sizes = buffer_bytes(plan, plan.sizes | {"b": 1, "m": blocks, "blocks": blocks, "context": context})
        cache = sum(sizes[one.name] for one in plan.buffers if one.kind == "cache")
        found.append(
            ProgramFacts(
                path.parent.name, traffic.launches, traffic.launches_per_layer, traffic.moved_bytes,
                traffic.least_bytes, sum(plan.weights.values()), cache, sum(sizes.values()) - cache,
            )
        )  # fmt: skip
    return found

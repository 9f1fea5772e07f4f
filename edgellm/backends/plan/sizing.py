"""What a program takes on an adapter, decided and checked before anything is loaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from edgellm.adapters import Adapter
from edgellm.backends.memory import MemoryPlan, plan_blocks
from edgellm.backends.plan.executor import BLOCK_SIZE
from edgellm.backends.plan.launches import block_bytes, buffer_bytes
from edgellm.bundle.manifest import MemoryFacts
from edgellm.compile.plan.plan import Plan
from edgellm.compile.plan.sizes import evaluate
from edgellm.errors import UnsupportedError, UsageError
from edgellm.units import bytes_text

_UNKNOWN_CACHE = 2 << 30
"""Bytes of a default cache on a device that does not say how much memory it has."""


def plan_memory(
    plan: Plan,
    adapter: Adapter,
    facts: MemoryFacts,
    *,
    context: int,
    max_batch: int | None,
    default_batch: int,
) -> tuple[MemoryPlan, dict[str, int]]:
    """Memory of an executor, and the largest of every size of the plan. See `plan_blocks`.

    Args:
        facts: of the bundle; the cache is as large as the plan says.

    Raises:
        UnsupportedError: the device has less memory, or smaller buffers; says what would fit.
        UsageError: more sequences are asked for than a step has tokens.
    """
    batch = max_batch or default_batch
    if batch > plan.sizes["n"]:
        raise UsageError(
            f"a batch of {batch} was asked for and this program's steps have {plan.sizes['n']} tokens; "
            "take a smaller --max-batch"
        )
    caches = block_bytes(plan)
    block = sum(caches.values())
    each = -(-context // BLOCK_SIZE)
    sizes = plan.sizes | {"b": batch, "m": each, "context": context, "blocks": 1}
    step = sum(size for name, size in buffer_bytes(plan, sizes).items() if name not in caches)
    on_device = MemoryFacts(
        weight_bytes=facts.weight_bytes,
        kv_bytes_per_token=-(-block // BLOCK_SIZE),
        # What is not the device's is in the machine's memory, which discrete adapters do not share.
        runtime_bytes=0 if adapter.kind == "discrete" else facts.runtime_bytes,
    )
    memory = plan_blocks(
        on_device, context=context, max_batch=max_batch, default_batch=default_batch, block_size=BLOCK_SIZE,
        step=step, available=adapter.free, device=adapter.name,
    )  # fmt: skip
    most = min(adapter.limits.binding_bytes, adapter.limits.buffer_bytes) // max(caches.values())
    if adapter.free is None and max_batch is None:
        most = min(most, max(each, _UNKNOWN_CACHE // block))
    if memory.blocks > most:
        memory = _fewer_blocks(memory, adapter, each, most, max_batch)
    return memory, sizes | {"blocks": memory.blocks}


def check_limits(plan: Plan, adapter: Adapter, sizes: Mapping[str, int]) -> None:
    """Whether the adapter can hold the program's buffers and run its kernels.

    Raises:
        UnsupportedError: it cannot; names the buffer or kernel and the limit.
    """
    limits = adapter.limits
    most = min(limits.binding_bytes, limits.buffer_bytes)
    for name, size in {**buffer_bytes(plan, sizes), **plan.weights}.items():
        if size > most:
            raise UnsupportedError(
                f"{adapter} takes buffers of at most {bytes_text(most)} and {name} has {bytes_text(size)}; "
                "build with a smaller quantization, or for another device"
            )
    for kernel in plan.kernels:
        x, y, z = kernel.threads
        for what, needed, limit in (
            ("threads in a workgroup", x * y * z, limits.threads),
            ("bytes of workgroup memory", kernel.shared_bytes, limits.shared_bytes),
            ("buffers in a kernel", len(kernel.access), limits.buffers),
            ("workgroups in a row", max(evaluate(one, sizes) for one in kernel.grid), limits.grid),
        ):
            if limit is not None and needed > limit:
                raise UnsupportedError(
                    f"{adapter} allows {limit:,} {what} and the kernel {kernel.name} needs {needed:,}; build "
                    "the bundle for a target with lower limits, such as webgpu"
                )


def _fewer_blocks(
    memory: MemoryPlan, adapter: Adapter, each: int, most: int, max_batch: int | None
) -> MemoryPlan:
    """The cache as large as the device's buffers allow, if nobody asked for more."""
    if max_batch is None and most >= each:
        return dataclasses.replace(memory, cache=memory.cache // memory.blocks * most, blocks=most)
    batch = max_batch or 1
    ways = [f"--context {most // batch * BLOCK_SIZE}"] if most >= batch else []
    ways += [f"--max-batch {most // each}"] if most >= each else []
    raise UnsupportedError(
        f"the cache of one layer for {batch} x {memory.context:,} tokens is larger than the buffers of "
        f"{adapter}, {bytes_text(min(adapter.limits.binding_bytes, adapter.limits.buffer_bytes))}; "
        + (f"{' or '.join(ways)} would fit" if ways else "build for another device")
    )

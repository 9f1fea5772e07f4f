"""How much memory an executor takes, decided and checked before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass

from edgellm.bundle.manifest import MemoryFacts
from edgellm.errors import UnsupportedError
from edgellm.units import bytes_text

MACHINE = "this machine"


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes by what they are for.

    Attributes:
        weights, runtime: as the bundle says. step: buffers of one step.
        cache: keys and values. In step mode they lie in `blocks` blocks; in request mode this is the most
            that they can take, and `blocks` is 0.
        block_size: tokens of a block. context: tokens that one sequence may hold. available: bytes that
            the device had free, None if unknown. device: what that is.
    """

    weights: int
    cache: int
    step: int
    runtime: int
    context: int
    blocks: int = 0
    block_size: int = 0
    available: int | None = None
    device: str = MACHINE

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.step + self.runtime

    @property
    def on_gpu(self) -> bool:
        """Whether it is a graphics adapter's memory."""
        return self.device != MACHINE

    def lines(self) -> list[str]:
        """One line for each part, for people."""
        if self.blocks:
            of = (
                f"{self.blocks:,} blocks of {bytes_text(self.cache // self.blocks)}: room for "
                f"{self.blocks * self.block_size:,} tokens, {self.context:,} of one sequence"
            )
        else:
            of = f"at most, when every place holds a sequence of {self.context:,} tokens"
        beside = "" if self.available is None else f" of {bytes_text(self.available)} free on {self.device}"
        rows = (
            ("weights", self.weights, ""),
            ("cache", self.cache, f"  {of}"),
            ("step", self.step, "  buffers of one step"),
            ("runtime", self.runtime, "  interpreter and libraries"),
            ("total", self.total, beside),
        )
        return [f"{name:8} {bytes_text(size):>9}{note}" for name, size, note in rows if size]


def plan_blocks(
    facts: MemoryFacts,
    *,
    context: int,
    max_batch: int | None,
    default_batch: int,
    block_size: int,
    step: int,
    available: int | None,
    device: str = MACHINE,
) -> MemoryPlan:
    """The memory of a step executor.

    A batch that was asked for gets a cache for `max_batch` whole contexts. The default batch gets at most
    half of what is free beside the weights, but room for one context: sequences seldom fill theirs, and when
    the cache is full after all, the youngest waits.

    Args:
        available: bytes free on `device`, None if unknown.

    Raises:
        UnsupportedError: that is more than is free; says what would fit.
    """
    block_bytes = block_size * facts.kv_bytes_per_token
    each = -(-context // block_size)
    fixed = facts.weight_bytes + step + facts.runtime_bytes
    blocks = (max_batch or default_batch) * each
    if available is not None:
        fit = max(0, available - fixed) // block_bytes
        if max_batch is None:
            blocks = max(each, min(blocks, fit // 2))
        if blocks > fit:
            batch = max_batch or 1
            ways = [f"--context {fit // batch * block_size}"] if fit >= batch else []
            ways += [f"--max-batch {fit // each}"] if fit >= each else []
            if fit and not ways:
                ways = [f"--max-batch 1 --context {fit * block_size}"]
            raise UnsupportedError(
                _refusal(fixed + blocks * block_bytes, available, batch, context, ways, device)
            )
    return MemoryPlan(
        weights=facts.weight_bytes,
        cache=blocks * block_bytes,
        step=step,
        runtime=facts.runtime_bytes,
        context=context,
        blocks=blocks,
        block_size=block_size,
        available=available,
        device=device,
    )


def plan_cohorts(facts: MemoryFacts, *, context: int, places: int, available: int | None) -> MemoryPlan:
    """The memory of a request executor with `places` rows in all. Its library takes the cache as rows grow,
    so only room for one is asked for.

    Raises:
        UnsupportedError: even one sequence is more than is free; says what would fit.
    """
    one = facts.total(context, 1)
    if available is not None and one > available:
        fixed = facts.weight_bytes + facts.runtime_bytes
        fit = max(0, available - fixed) // facts.kv_bytes_per_token
        raise UnsupportedError(_refusal(one, available, 1, context, [f"--context {fit}"] if fit else []))
    return MemoryPlan(
        weights=facts.weight_bytes,
        cache=context * places * facts.kv_bytes_per_token,
        step=0,
        runtime=facts.runtime_bytes,
        context=context,
        available=available,
    )


def _refusal(
    needed: int, available: int, batch: int, context: int, ways: list[str], device: str = MACHINE
) -> str:
    """Why it does not fit, and the `ways` in which it would."""
    who = f"{batch} sequences of {context:,} tokens need" if batch > 1 else f"a context of {context:,} needs"
    said = f"{who} {bytes_text(needed)} and {device} has {bytes_text(available)} free; "
    if not ways:
        return said + "even the weights do not fit: free some memory, or build with a smaller quantization"
    return said + " or ".join(ways) + " would fit"

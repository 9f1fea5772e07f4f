"""Memory is planned from what was asked for, and refused with what would fit."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgellm.backends import LoadOptions, get_backend
from edgellm.backends.memory import MemoryPlan, plan_blocks, plan_cohorts
from edgellm.bundle import Bundle
from edgellm.bundle.manifest import MemoryFacts
from edgellm.errors import UnsupportedError, UsageError

FACTS = MemoryFacts(weight_bytes=600_000_000, kv_bytes_per_token=20_000, runtime_bytes=100_000_000)


def plan(available: int | None, max_batch: int | None = None, context: int = 1000) -> MemoryPlan:
    return plan_blocks(
        FACTS,
        context=context,
        max_batch=max_batch,
        default_batch=16,
        block_size=16,
        step=50_000_000,
        available=available,
    )


def test_a_batch_that_is_asked_for_gets_room_for_its_whole_contexts() -> None:
    made = plan(10**10, max_batch=4)
    assert made.blocks == 4 * 63  # 1,000 tokens are 62.5 blocks
    assert made.cache == made.blocks * 16 * FACTS.kv_bytes_per_token
    assert made.total == made.cache + 750_000_000


def test_the_default_batch_takes_half_of_what_is_free_and_room_for_one_at_least() -> None:
    assert plan(10**11).blocks == plan(None).blocks == 16 * 63
    assert plan(950_000_000).cache <= 100_000_000 < plan(950_000_000).cache + 16 * 20_000
    assert plan(775_000_000).blocks == 63


@pytest.mark.parametrize("max_batch", [None, 1, 2, 8, 40])
@pytest.mark.parametrize("available", [751_000_000, 760_000_000, 800_000_000, 1_000_000_000])
def test_a_refusal_names_what_fits(max_batch: int | None, available: int) -> None:
    try:
        assert plan(available, max_batch, context=4000).total <= available
        return
    except UnsupportedError as error:
        said = str(error)
    for way in said.split("; ")[1].split(" or "):
        found = re.fullmatch(r"(?:--max-batch (\d+))? ?(?:--context (\d+))?(?: would fit)?", way)
        assert found is not None and way, said
        batch, context = int(found[1] or max_batch or 1), int(found[2] or 4000)
        assert plan(available, batch, context).total <= available
        with pytest.raises(UnsupportedError):  # the most that fits
            plan(available, batch + (found[2] is None), context + (found[2] is not None))


def test_weights_that_do_not_fit_are_said_so() -> None:
    with pytest.raises(UnsupportedError, match="even the weights"):
        plan(700_000_000)


def test_cohorts_need_room_for_one_sequence() -> None:
    made = plan_cohorts(FACTS, context=1000, places=32, available=721_000_000)
    assert (made.cache, made.blocks) == (32 * 20_000_000, 0)
    with pytest.raises(UnsupportedError, match="--context 500 would fit"):
        plan_cohorts(FACTS, context=1000, places=32, available=710_000_000)


def test_every_part_is_printed_beside_what_the_machine_has() -> None:
    lines = plan(10**10, max_batch=4).lines()
    assert [line.split()[0] for line in lines] == ["weights", "cache", "step", "runtime", "total"]
    assert "252 blocks" in lines[1] and "4,032 tokens" in lines[1]
    assert "10.00 GB free" in lines[-1]


@pytest.mark.parametrize("context", [1, 100])
def test_the_context_is_checked_against_the_bundle(context: int) -> None:
    assert LoadOptions(context=context).context_within(100) == context
    assert LoadOptions().context_within(100) == 100
    with pytest.raises(UsageError, match="--context 101"):
        LoadOptions(context=101).context_within(100)


def test_a_bundle_is_opened_with_the_memory_that_was_planned(bundle_dir: Path) -> None:
    bundle = Bundle.open(bundle_dir)
    heard: list[MemoryPlan] = []
    options = LoadOptions(context=32, max_batch=3, on_memory=heard.append)
    executor = get_backend(bundle.manifest.backend).load(bundle, options)
    try:
        assert heard == [executor.memory]
        assert executor.memory is not None
        assert executor.memory.context == executor.limits.context == 32
        assert executor.memory.weights == bundle.manifest.memory.weight_bytes
    finally:
        executor.close()
    with pytest.raises(UsageError, match="build it again"):
        get_backend(bundle.manifest.backend).load(bundle, LoadOptions(context=1 << 20))

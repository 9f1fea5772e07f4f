"""The scheduler by itself: how little of the cache lies unused, and that everybody gets a turn."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from edgellm.backends.executor import ExecutorLimits
from edgellm.backends.params import SamplingParams
from edgellm.engine.generation import Generation
from edgellm.engine.scheduler import Schedule, StepScheduler
from edgellm.engine.sequence import Sequence


def sequence(rng: random.Random, prompt: int, answer: int) -> Sequence:
    generation = Generation(1, [rng.randrange(1000) for _ in range(prompt)], SamplingParams(), lambda _: None)
    return Sequence(generation, answer, frozenset(), lambda ids: "")


def run(scheduler: StepScheduler, step: Schedule, rng: random.Random) -> None:
    """What the step loop does with a step, with random tokens for those that a model would choose."""
    for chunk in step.chunks:
        scheduler.advance(chunk)
        one = chunk.sequence
        if one.computed == len(one.tokens):
            one.tokens.append(rng.randrange(1000))
        if one.new_tokens > one.max_tokens:
            scheduler.remove(one)


def test_under_four_percent_of_the_held_cache_is_unused() -> None:
    """Requests as chats have them: prompts of 300 tokens and answers of 200, in the middle; blocks of 16."""
    rng = random.Random(4)
    scheduler = StepScheduler(ExecutorLimits(1000, 2048, 16, 1, 16, 320, 256))
    wasted, held = [], []
    left = 300
    while left or scheduler.running:
        while left and len(scheduler.waiting) < 2:
            prompt = min(1400, int(rng.lognormvariate(5.7, 0.7)) + 1)
            scheduler.add(sequence(rng, prompt, min(600, int(rng.lognormvariate(5.3, 0.6)) + 1)))
            left -= 1
        run(scheduler, scheduler.schedule(), rng)
        stats = scheduler.stats()
        held.append(stats.blocks_in_use)
        wasted.append(stats.waste * stats.blocks_in_use)
    assert sum(wasted) / sum(held) < 0.04
    assert scheduler.preemptions > 0 and max(held) > 0.95 * 320, "the cache was under pressure"
    assert scheduler.stats().blocks_in_use == scheduler.stats().unused_slots == 0
    print(f"waste {sum(wasted) / sum(held):.4f}, pre-emptions {scheduler.preemptions}")


lengths = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 30)), min_size=1, max_size=60)


@settings(max_examples=60, deadline=None)
@given(lengths, st.integers(2, 60), st.integers(2, 16), st.randoms(use_true_random=False))
def test_everybody_gets_a_turn_however_many_run(
    work: list[tuple[int, int]], max_batch: int, step_tokens: int, rng: random.Random
) -> None:
    """More sequences than a step has tokens: decodes go round, and prompts are read meanwhile."""
    scheduler = StepScheduler(ExecutorLimits(1000, 100, max_batch, 1, 4, 2000, step_tokens))
    for prompt, answer in work:
        scheduler.add(sequence(rng, prompt, answer))
    half = step_tokens // 2
    longest = -(-max_batch // (step_tokens - half))
    waited: dict[Sequence, int] = {}
    while scheduler.running or scheduler.waiting:
        decodes = {one for one in scheduler.running if len(one.tokens) - one.computed == 1}
        unread = sum(len(one.tokens) - one.computed for one in {*scheduler.running} - decodes)
        step = scheduler.schedule()
        given = {chunk.sequence: chunk.count for chunk in step.chunks}
        assert 0 < sum(given.values()) <= step_tokens and len(given) == len(step.chunks)
        waited = {one: 0 if one in given else waited.get(one, 0) + 1 for one in decodes}
        assert max(waited.values(), default=0) < longest
        read = sum(count for one, count in given.items() if one not in decodes)
        assert read >= min(unread, half), "prompts get their half"
        assert decodes <= given.keys() or sum(given.values()) == step_tokens, "no room is left unused"
        run(scheduler, step, rng)
    assert scheduler.preemptions == scheduler.pool.in_use == 0


def test_a_common_beginning_is_computed_once_by_requests_that_come_together() -> None:
    rng = random.Random(2)
    scheduler = StepScheduler(ExecutorLimits(1000, 2048, 16, 1, 16, 320, 256))
    others = sequence(rng, 40, 4)
    group = [sequence(rng, 200, 4) for _ in range(8)]
    for one in group[1:]:
        one.tokens[:] = [*group[0].tokens[:190], *one.tokens[190:]]
    for one in [*group, others]:
        scheduler.add(one)
    first = scheduler.schedule()
    assert [(chunk.sequence, chunk.count) for chunk in first.chunks] == [(group[0], 200), (others, 40)]
    run(scheduler, first, rng)
    second = scheduler.schedule()
    assert len(second.chunks) == 9 and len(second.copies) == 7, "the twelfth block is shared in part"
    assert all(one.generation.cached_tokens == one.computed == 190 for one in group[1:])
    for source, target in second.copies:
        assert source == group[0].blocks[11] and target != source
    run(scheduler, second, rng)
    while scheduler.running:
        run(scheduler, scheduler.schedule(), rng)
    assert scheduler.pool.in_use == 0

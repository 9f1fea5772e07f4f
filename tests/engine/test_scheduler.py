"""The scheduler by itself: how little of the cache lies unused."""

from __future__ import annotations

import random

from edgellm.backends.executor import ExecutorLimits
from edgellm.backends.params import SamplingParams
from edgellm.engine.generation import Generation
from edgellm.engine.scheduler import StepScheduler
from edgellm.engine.sequence import Sequence


def sequence(rng: random.Random, prompt: int, answer: int) -> Sequence:
    generation = Generation(1, [rng.randrange(1000) for _ in range(prompt)], SamplingParams(), lambda _: None)
    return Sequence(generation, answer, frozenset(), lambda ids: "")


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
        for chunk in scheduler.schedule().chunks:
            scheduler.advance(chunk)
            one = chunk.sequence
            if one.computed == len(one.tokens):
                one.tokens.append(rng.randrange(1000))
            if one.new_tokens > one.max_tokens:
                scheduler.remove(one)
        stats = scheduler.stats()
        held.append(stats.blocks_in_use)
        wasted.append(stats.waste * stats.blocks_in_use)
    assert sum(wasted) / sum(held) < 0.04
    assert scheduler.preemptions > 0 and max(held) > 0.95 * 320, "the cache was under pressure"
    assert scheduler.stats().blocks_in_use == scheduler.stats().unused_slots == 0
    print(f"waste {sum(wasted) / sum(held):.4f}, pre-emptions {scheduler.preemptions}")

"""What the engine must do over every real step executor: scenes that tests of several of them share."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

from edgellm import Engine
from edgellm.backends.executor import Float32s, StepInput
from edgellm.backends.params import SamplingParams
from edgellm.engine import Result
from tests.engine.soak import Setting, open_engine


class Watched:
    """An executor that notes the tokens of each step."""

    def __init__(self, executor: Any) -> None:
        self.steps: list[list[int]] = []
        self._executor = executor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._executor, name)

    def step(self, step: StepInput) -> Float32s:
        self.steps.append(step.token_ids.tolist())
        return self._executor.step(step)  # type: ignore[no-any-return]


W = TypeVar("W", bound=Watched)


@contextmanager
def watching(bundle: Path, kind: type[W]) -> Iterator[tuple[Engine, W]]:
    """An engine over the bundle's own executor, and what notes its steps."""
    with Engine(bundle) as opened:
        seen = kind(opened.executor)
        with Engine(bundle, executor=seen) as engine:  # type: ignore[arg-type]
            yield engine, seen


def second_turn(engine: Engine, seen: Watched, question: str, max_tokens: int) -> tuple[list[int], Result]:
    """The second turn of a chat computes its new tokens only: its prompt, and what was answered."""
    greedy = engine.params(temperature=0.0, max_tokens=max_tokens)
    messages = [{"role": "user", "content": question}]
    first_ids = engine.encode_messages(messages)
    first = engine.submit(first_ids, greedy).result()
    messages += [
        {"role": "assistant", "content": first.text},
        {"role": "user", "content": "And for my phone?"},
    ]
    second_ids = engine.encode_messages(messages)
    known = [*first_ids, *first.token_ids]
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(second_ids, known, strict=False)))
    assert shared >= len(known) - 2, "the template goes on where the answer ended"
    seen.steps.clear()
    second = engine.submit(second_ids, greedy).result()
    # The answer's last token was sampled and never computed, unless the end token came after it.
    assert shared - 1 <= second.cached_tokens <= shared
    assert seen.steps[0] == second_ids[second.cached_tokens :]
    return second_ids, second


def requests_alone(
    bundle: Path, count: int, longest_tail: int, lengths: range, kv: str | None = None
) -> tuple[list[list[int]], list[SamplingParams], list[tuple[int, ...]]]:
    """Prompts of random tokens that begin alike, their settings, and what each is answered alone, without a
    prefix cache.

    Args:
        longest_tail: of what follows a common beginning. lengths: of the answers.
    """
    rng = random.Random(11)
    with open_engine(bundle, Setting(1000, 1, 256, False, kv)) as engine:
        starts = [[rng.randrange(5, 2000) for _ in range(40)] for _ in range(3)]
        prompts = [
            rng.choice(starts)[: rng.randrange(1, 41)]
            + [rng.randrange(5, 2000)] * rng.randrange(1, longest_tail)
            for _ in range(count)
        ]
        every = [
            engine.params(temperature=0.0, ignore_eos=True, max_tokens=rng.choice(lengths)) for _ in prompts
        ]
        alone = [engine.submit(p, s).result().token_ids for p, s in zip(prompts, every, strict=True)]
    return prompts, every, alone


def check_counts(engine: Engine, setting: Setting) -> int:
    """After a load: no block is in use, and the prefix cache was of use, if there was one. How often a
    sequence was pre-empted.
    """
    stats = engine.stats()
    assert stats.cache is not None and stats.cache.blocks_in_use == 0
    assert (stats.cached_tokens > 0) == setting.prefix_cache
    return stats.cache.preemptions

"""The engine over the real step executor: what a request gets does not depend on company, chunks or cache."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

import edgellm
from edgellm import Engine
from edgellm.backends.executor import Float32s, StepInput
from edgellm.errors import UnsupportedError
from edgellm.machine import Memory
from tests.engine.soak import Setting, open_engine, soak
from tests.support import require


@pytest.fixture(scope="module")
def demo_int4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model in int4 for TVM."""
    for module in ("tvm", "ziglang"):
        require(module=module, reason="it compiles and runs the model: pip install 'edgellm[tvm]'")
    out = tmp_path_factory.mktemp("bundles") / "demo-int4"
    return edgellm.build("demo", backend="tvm", quant="int4", out=out).path


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


@pytest.fixture
def watched(demo_int4: Path) -> Iterator[tuple[Engine, Watched]]:
    with Engine(demo_int4) as opened:
        seen = Watched(opened.executor)
        with Engine(demo_int4, executor=seen) as engine:  # type: ignore[arg-type]
            yield engine, seen


def test_the_second_turn_of_a_chat_computes_its_new_tokens_only(
    watched: tuple[Engine, Watched], demo_int4: Path
) -> None:
    engine, seen = watched
    greedy = engine.params(temperature=0.0, max_tokens=60)
    messages = [{"role": "user", "content": "How do I build a bundle for a browser? " * 40}]
    first_ids = engine.encode_messages(messages)
    assert 300 < len(first_ids) < 500
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
    with Engine(demo_int4, prefix_cache=False) as cold:
        alone = cold.submit(second_ids, greedy).result()
    assert (alone.cached_tokens, alone.token_ids) == (0, second.token_ids)


def test_tokens_do_not_depend_on_budget_batch_cache_or_preemption(demo_int4: Path) -> None:
    """Random mixes: each request alone without a prefix cache, then all together in several ways."""
    rng = random.Random(11)
    with open_engine(demo_int4, Setting(1000, 1, 256, prefix_cache=False)) as engine:
        starts = [[rng.randrange(5, 2000) for _ in range(40)] for _ in range(3)]
        prompts = [
            rng.choice(starts)[: rng.randrange(1, 41)] + [rng.randrange(5, 2000)] * rng.randrange(1, 150)
            for _ in range(14)
        ]
        every = [
            engine.params(temperature=0.0, ignore_eos=True, max_tokens=rng.randrange(1, 60)) for _ in prompts
        ]
        alone = [engine.submit(p, s).result().token_ids for p, s in zip(prompts, every, strict=True)]
    preempted = 0
    for setting in (
        Setting(1000, 14, 256),
        Setting(1000, 5, 17),
        Setting(1000, 8, 64, prefix_cache=False),
        Setting(26, 8, 33),
        Setting(30, 14, 256, prefix_cache=False),
    ):
        with open_engine(demo_int4, setting) as engine:
            for _ in range(2):  # the second time, prompts are in the cache
                together = [g.result().token_ids for g in engine.submit_many(prompts, every)]
                assert together == alone, setting
            stats = engine.stats()
        assert stats.cache is not None and stats.cache.blocks_in_use == 0
        assert (stats.cached_tokens > 0) == setting.prefix_cache
        preempted += stats.cache.preemptions
    assert preempted > 0


def test_random_load_loses_nothing(demo_int4: Path) -> None:
    found = soak(demo_int4, 9, round_seconds=3, clients=12)
    assert found["problems"] == []
    assert found["completed"] > 100 and found["left"] > 5
    assert found["preemptions"] > 0 and found["cached_tokens"] > 0


def test_memory_is_sized_from_the_request(demo_int4: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Engine(demo_int4, context=100, max_batch=3) as engine:
        limits, memory = engine.executor.limits, engine.memory
        assert (limits.num_blocks, limits.max_batch, engine.context) == (3 * 7, 3, 100)
        per_token = engine.bundle.manifest.memory.kv_bytes_per_token
        assert memory is not None and memory.cache == 21 * 16 * per_token
        held = sum(array.nbytes for array in engine.executor._arrays[1])  # type: ignore[union-attr]
        assert held == memory.cache, "the plan is what is allocated"
    free = Memory(10**9, memory.total - memory.cache // 3)
    monkeypatch.setattr(sys.modules["edgellm.backends.tvm.backend"], "read_memory", lambda: free)
    with pytest.raises(UnsupportedError, match=r"--context 64 or --max-batch 2 would fit"):
        Engine(demo_int4, context=100, max_batch=3)

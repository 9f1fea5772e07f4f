"""The engine over the real step executor: what a request gets does not depend on company, chunks or cache."""

from __future__ import annotations

import random
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edgellm import Engine
from edgellm.errors import UnsupportedError
from edgellm.machine import Memory
from tests.engine.scenarios import Watched, check_counts, requests_alone, second_turn, watching
from tests.engine.soak import Setting, open_engine, soak


def test_the_second_turn_of_a_chat_computes_its_new_tokens_only(demo_int4: Path) -> None:
    question = "How do I build a bundle for a browser? " * 40
    with watching(demo_int4, Watched) as (engine, seen):
        assert 300 < len(engine.encode_prompt(question)) < 500
        prompt, second = second_turn(engine, seen, question, 60)
        greedy = engine.params(temperature=0.0, max_tokens=60)
    with Engine(demo_int4, prefix_cache=False) as cold:
        alone = cold.submit(prompt, greedy).result()
    assert (alone.cached_tokens, alone.token_ids) == (0, second.token_ids)


@pytest.mark.parametrize("kv", [None, "int8"])
def test_tokens_do_not_depend_on_budget_batch_cache_or_preemption(demo_int4: Path, kv: str | None) -> None:
    """Random mixes: each request alone without a prefix cache, then all together in several ways."""
    prompts, every, alone = requests_alone(demo_int4, 14, 150, range(1, 60), kv)
    preempted = 0
    for setting in (
        Setting(1000, 14, 256),
        Setting(1000, 5, 17),
        Setting(1000, 8, 64, prefix_cache=False),
        Setting(26, 8, 33),
        Setting(30, 14, 256, prefix_cache=False),
    ):
        with open_engine(demo_int4, replace(setting, kv=kv)) as engine:
            for _ in range(2):  # the second time, prompts are in the cache
                together = [g.result().token_ids for g in engine.submit_many(prompts, every)]
                assert together == alone, setting
            preempted += check_counts(engine, setting)
    assert preempted > 0


def test_more_requests_run_than_a_step_has_tokens(demo_int4: Path) -> None:
    """All get the tokens that they have alone, a long prompt among them too."""
    rng = random.Random(3)
    prompts = [[rng.randrange(5, 2000) for _ in range(4)] for _ in range(300)]
    prompts[-1] = [rng.randrange(5, 2000) for _ in range(600)]
    with Engine(demo_int4, max_batch=300, context=640, max_queue=300) as engine:
        limits = engine.executor.limits
        assert limits.max_step_tokens == 256 < limits.max_batch  # type: ignore[union-attr]
        greedy = engine.params(temperature=0.0, max_tokens=6, ignore_eos=True)
        for count in (257, 300):
            together = [one.result().token_ids for one in engine.submit_many(prompts[-count:], greedy)]
        for one in (0, 150, 299):
            assert engine.submit(prompts[one], greedy).result().token_ids == together[one]


def test_random_load_loses_nothing(demo_int4: Path) -> None:
    found = soak(demo_int4, 9, round_seconds=3, clients=12)
    assert found["problems"] == []
    assert found["completed"] > 100 and found["left"] > 5
    assert found["preemptions"] > 0 and found["cached_tokens"] > 0


@pytest.mark.parametrize("kv", ["int8", None])
def test_memory_is_sized_from_the_request(
    demo_int4: Path, kv: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Engine(demo_int4, context=100, max_batch=3, kv=kv) as engine:
        limits, memory = engine.executor.limits, engine.memory
        assert (limits.num_blocks, limits.max_batch, engine.context) == (3 * 7, 3, 100)
        fp16 = 21 * 16 * engine.bundle.manifest.memory.kv_bytes_per_token
        assert memory is not None
        assert memory.cache == fp16 if kv is None else fp16 / 2 <= memory.cache < 0.6 * fp16
        held = sum(array.nbytes for array in engine.executor._arrays[1])  # type: ignore[union-attr]
        assert held == memory.cache, "the plan is what is allocated"
    free = Memory(10**9, memory.total - memory.cache // 3)
    monkeypatch.setattr(sys.modules["edgellm.backends.tvm.backend"], "read_memory", lambda: free)
    with pytest.raises(UnsupportedError, match=r"--context 64 or --max-batch 2 would fit"):
        Engine(demo_int4, context=100, max_batch=3, kv=kv)

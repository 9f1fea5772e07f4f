"""The engine over GPU programs, on both hosts: what a request gets does not depend on company or chunks.

Sums stand in another order where more tokens share a step, so tokens may part where the two likeliest are
nearly equal; everywhere else they must not.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgellm import Engine
from edgellm.adapters import list_adapters
from edgellm.backends.executor import Float32s, Int32s, StepInput
from edgellm.backends.memory import MemoryPlan
from edgellm.backends.plan.executor import PlanExecutor
from edgellm.errors import UnsupportedError, UsageError
from tests.backends.plan.models import PROGRAMS, use_program
from tests.engine.scenarios import Watched, check_counts, requests_alone, second_turn, watching
from tests.engine.soak import Setting, open_engine

NEAR_TIE = 0.01
"""Between the two largest logits; float32 sums of this model differ by 1e-5."""


@pytest.fixture(params=PROGRAMS)
def bundle(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, demo_gpu: Path) -> Path:
    """The demo model in int4, run by wgpu in both arithmetics and by OpenCL in fp32."""
    use_program(monkeypatch, request.param)
    return demo_gpu


class WatchedTop(Watched):
    """Notes the tokens of steps that bring back the largest logits only, and counts those that do not."""

    whole = 0

    def step(self, step: StepInput) -> Float32s:
        self.whole += 1
        return super().step(step)

    def step_top(self, step: StepInput) -> tuple[Float32s, Int32s]:
        self.steps.append(step.token_ids.tolist())
        return self._executor.step_top(step)  # type: ignore[no-any-return]


@pytest.fixture
def watched(bundle: Path) -> Iterator[tuple[Engine, WatchedTop]]:
    with watching(bundle, WatchedTop) as both:
        yield both


def test_the_second_turn_of_a_chat_computes_its_new_tokens_only(
    watched: tuple[Engine, WatchedTop], bundle: Path
) -> None:
    engine, seen = watched
    prompt, second = second_turn(engine, seen, "How do I build a bundle for a browser? " * 10, 30)
    with Engine(bundle, prefix_cache=False) as cold:
        alone = cold.submit(prompt, cold.params(temperature=0.0, max_tokens=30)).result()
        assert alone.cached_tokens == 0
        assert_same(cold.executor, prompt, alone.token_ids, second.token_ids)


def test_whole_rows_come_back_only_where_they_are_needed(watched: tuple[Engine, WatchedTop]) -> None:
    """The same tokens either way: logprobs ask for whole rows, and change nothing else."""
    engine, seen = watched
    prompt = engine.encode_messages([{"role": "user", "content": "What is a bundle?"}])
    for settings in ({"temperature": 0.0}, {"temperature": 0.9, "top_k": 40, "top_p": 0.9, "seed": 5}):
        before = seen.whole
        short = engine.submit(prompt, engine.params(max_tokens=12, **settings)).result()
        assert seen.whole == before
        whole = engine.submit(prompt, engine.params(max_tokens=12, logprobs=1, **settings)).result()
        assert seen.whole > before and short.token_ids == whole.token_ids
    assert seen.whole
    before = seen.whole
    for settings in ({"top_k": 65}, {"top_k": 0, "top_p": 0.9}, {"repetition_penalty": 1.1}):
        engine.submit(prompt, engine.params(temperature=0.7, max_tokens=2, **settings)).result()
        assert seen.whole > before, settings
        before = seen.whole


def test_tokens_do_not_depend_on_budget_batch_cache_or_preemption(bundle: Path) -> None:
    """Random mixes: each request alone without a prefix cache, then all together in several ways."""
    prompts, every, alone = requests_alone(bundle, 8, 90, range(20, 45))
    preempted = 0
    for setting in (Setting(1000, 8, 256), Setting(24, 8, 33), Setting(25, 8, 64, prefix_cache=False)):
        with open_engine(bundle, setting) as engine:
            together = [one.result().token_ids for one in engine.submit_many(prompts, every)]
            preempted += check_counts(engine, setting)
            for prompt, expected, got in zip(prompts, alone, together, strict=True):
                assert_same(engine.executor, prompt, expected, got)
    assert preempted > 0


def test_memory_is_sized_from_the_request(bundle: Path) -> None:
    heard: list[MemoryPlan] = []
    with pytest.raises(UsageError, match="--kv int8: the cache of a GPU bundle"):
        Engine(bundle, kv="int8")
    with Engine(bundle, context=100, max_batch=3, on_memory=heard.append) as engine:
        limits, memory = engine.executor.limits, engine.memory
        assert (limits.num_blocks, limits.max_batch, engine.context) == (3 * 7, 3, 100)
        assert memory is not None and memory.blocks == 21 and memory.available is not None
        assert heard == [memory] and f" free on {memory.device}" in memory.lines()[-1]
        assert memory.device in [one.name for one in list_adapters()]
        assert memory.weights == engine.bundle.manifest.memory.weight_bytes


def test_a_gpu_bundle_without_a_gpu(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if any(one.kind != "software" for one in list_adapters()):
        pytest.skip("this machine has a GPU")
    monkeypatch.delenv("EDGELLM_ADAPTER")
    with pytest.raises(UnsupportedError, match="no GPU was found, only software"):
        Engine(bundle)


def assert_same(executor: object, prompt: list[int], expected: tuple[int, ...], got: tuple[int, ...]) -> None:
    """The same tokens, up to one that was nearly as likely as another."""
    if expected == got:
        return
    at = next(i for i, pair in enumerate(zip(expected, got, strict=False)) if pair[0] != pair[1])
    assert isinstance(executor, PlanExecutor)
    ids = np.array([*prompt, *expected[:at]], np.int32)
    table = np.arange(-(-len(ids) // 16), dtype=np.int32)[None]
    row = np.empty(0, np.float32)
    for start in range(0, len(ids), 128):
        piece = ids[start : start + 128]
        end = start + len(piece)
        ends = np.array([0, len(piece)], np.int32)
        places, last = np.arange(start, end, dtype=np.int32), ends[1:] - 1
        [row] = executor.step(StepInput(piece, places, ends, np.array([end], np.int32), table, last))
    assert abs(row[expected[at]] - row[got[at]]) < NEAR_TIE, f"token {at} is {got[at]}, not {expected[at]}"

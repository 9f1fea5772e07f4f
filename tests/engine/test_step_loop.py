"""The step loop on a real (small) executor: same tokens in any company, nothing lost, all blocks return."""

from __future__ import annotations

import random
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgellm.backends.executor import Float32s, StepInput
from edgellm.backends.params import SamplingParams
from edgellm.engine.generation import Chunk, Generation, Result
from edgellm.engine.sequence import Sequence
from edgellm.engine.step_loop import StepLoop
from edgellm.errors import DeviceLostError, ExecutorError
from tests.engine.numpy_executor import NumpyExecutor


def sequence(prompt: list[int], max_tokens: int = 8, **params: object) -> Sequence:
    settings = SamplingParams(**({"temperature": 0.0, "ignore_eos": True} | params))  # type: ignore[arg-type]
    generation = Generation(1, prompt, settings, lambda _: None)
    return Sequence(generation, max_tokens, frozenset(), lambda ids: "".join(chr(97 + i % 26) for i in ids))


def run(executor: NumpyExecutor, sequences: list[Sequence]) -> list[Result]:
    loop = StepLoop(executor)
    loop.submit(sequences)
    results = [s.generation.result() for s in sequences]
    loop.close()
    assert loop.scheduler.pool.in_use == 0
    return results


def test_greedy_tokens_equal_the_reference_computed_without_cache() -> None:
    executor = NumpyExecutor()
    prompts = [[1, 2, 3], [5] * 20, [7, 8, 9, 10, 11, 12, 13, 14, 15], [4]]
    results = run(executor, [sequence(p, 12) for p in prompts])
    for prompt, result in zip(prompts, results, strict=True):
        assert list(result.token_ids) == executor.greedy(prompt, 12)
        assert result.finish_reason == "length"


prompt_lists = st.lists(
    st.tuples(st.lists(st.integers(0, 2), min_size=1, max_size=25), st.integers(1, 20)),
    min_size=1,
    max_size=9,
)


@settings(max_examples=60, deadline=None)
@given(prompt_lists, st.integers(1, 9), st.integers(1, 20), st.integers(12, 40), st.sampled_from([1, 3, 4]))
def test_any_mix_of_requests_gives_each_the_tokens_it_has_alone(
    work: list[tuple[list[int], int]], max_batch: int, budget: int, num_blocks: int, block_size: int
) -> None:
    """Random prompts (with many shared prefixes), chunk sizes, and caches too small for all of them."""
    num_blocks = max(num_blocks, -(-45 // block_size))
    executor = NumpyExecutor(
        max_batch=max_batch,
        max_step_tokens=budget,
        num_blocks=num_blocks,
        block_size=block_size,
    )
    results = run(executor, [sequence(prompt, count) for prompt, count in work])
    for (prompt, count), result in zip(work, results, strict=True):
        assert list(result.token_ids) == executor.greedy(prompt, count)


def test_sampled_tokens_do_not_depend_on_company_or_preemption() -> None:
    def tokens(num_blocks: int, others: int) -> tuple[int, ...]:
        executor = NumpyExecutor(num_blocks=num_blocks, max_batch=6)
        mine = sequence([3, 1, 4, 1, 5], 20, temperature=1.0, seed=9)
        rest = [sequence([i, i + 1], 25, temperature=1.0, seed=i) for i in range(others)]
        return run(executor, [*rest, mine])[-1].token_ids

    assert tokens(40, 0) == tokens(40, 5) == tokens(10, 5)


def test_a_cache_too_small_for_all_preempts_and_loses_nothing() -> None:
    executor = NumpyExecutor(num_blocks=12, max_batch=4)
    loop = StepLoop(executor)
    work = [sequence([i, 2, 3, 4, 5, 6], 30) for i in range(4)]
    loop.submit(work)
    for i, one in enumerate(work):
        assert list(one.generation.result().token_ids) == executor.greedy([i, 2, 3, 4, 5, 6], 30)
    loop.close()
    assert loop.scheduler.preemptions > 0
    assert loop.scheduler.pool.in_use == 0


def test_a_chat_turn_reuses_the_blocks_of_the_conversation() -> None:
    executor = NumpyExecutor()
    loop = StepLoop(executor)
    first = sequence(list(range(1, 21)), 10)
    loop.submit([first])
    answer = list(first.generation.result().token_ids)
    executor.log.clear()
    turn = list(range(1, 21)) + answer + [40, 41]
    second = sequence(turn, 4)
    loop.submit([second])
    result = second.generation.result()
    loop.close()
    # Of 32 tokens, all but the user's two and the answer's last, whose keys were never computed.
    assert result.cached_tokens == 29
    assert executor.log[0].token_ids.tolist() == turn[29:]
    assert list(result.token_ids) == executor.greedy(turn, 4)


def test_a_fork_of_a_conversation_copies_what_it_shares_and_spoils_nothing() -> None:
    executor = NumpyExecutor(num_blocks=40)
    loop = StepLoop(executor)
    start = list(range(1, 19))

    def answer(prompt: list[int]) -> Result:
        one = sequence(prompt, 5)
        loop.submit([one])
        return one.generation.result()

    first = answer(start)
    turn = [*start, *first.token_ids]
    forks = [answer([*start, 50 + i, 3, 4]) for i in range(3)]
    again = answer([*turn, 7])
    loop.close()
    assert [fork.cached_tokens for fork in forks] == [18] * 3
    assert again.cached_tokens == len(turn) - 1
    assert executor.copies == 3
    for i, fork in enumerate(forks):
        assert list(fork.token_ids) == executor.greedy([*start, 50 + i, 3, 4], 5)
    assert list(again.token_ids) == executor.greedy([*turn, 7], 5)
    assert loop.scheduler.pool.in_use == 0


class Held(NumpyExecutor):
    """Its second step waits until another request has come."""

    def __init__(self, **limits: int) -> None:
        super().__init__(**limits)
        self.come = threading.Event()

    def step(self, step: StepInput) -> Float32s:
        assert not self.log or self.come.wait(30)
        return super().step(step)


def test_a_late_request_joins_the_running_batch() -> None:
    executor = Held(context=64)
    loop = StepLoop(executor)
    early = sequence([1, 2], 55)
    loop.submit([early])
    stream = iter(early.generation)
    next(stream)
    late = sequence([5, 6, 7], 3)
    loop.submit([late])
    executor.come.set()
    late.generation.result()
    assert not early.generation.done
    early.generation.result()
    loop.close()
    assert any(len(step.context_lens) == 2 for step in executor.log)


def test_long_prompts_do_not_stop_running_decodes() -> None:
    executor = Held(max_step_tokens=8)
    loop = StepLoop(executor)
    early, late = sequence([1], 50), sequence([2] * 30, 2)
    loop.submit([early])
    next(iter(early.generation))
    loop.submit([late])
    executor.come.set()
    late.generation.result()
    early.generation.result()
    loop.close()
    mixed = [np.diff(step.seq_starts).tolist() for step in executor.log if len(step.context_lens) == 2]
    assert mixed[:8] == [[1, 4]] * 7 + [[1, 2]], "half of a step's tokens go to the prompt"
    executor = NumpyExecutor(max_step_tokens=8)
    run(executor, [sequence([2] * 30, 2)])
    assert [len(step.token_ids) for step in executor.log] == [8, 8, 8, 6, 1], (
        "and all of them without decodes"
    )


def test_cancelling_frees_place_and_blocks_between_steps() -> None:
    executor = NumpyExecutor(max_batch=1)
    loop = StepLoop(executor)
    hog, other = sequence([1, 2], 60), sequence([3], 2)
    loop.submit([hog, other])
    next(iter(hog.generation))
    hog.generation.put(Chunk("", finish_reason="cancelled"))
    hog.cancelled = True
    loop.cancel(hog)
    assert other.generation.result().finish_reason == "length"
    assert hog.generation.result().finish_reason == "cancelled"
    loop.close()
    assert loop.scheduler.pool.in_use == 0


def test_a_failed_step_fails_its_requests_and_the_next_ones_work() -> None:
    executor = NumpyExecutor()
    loop = StepLoop(executor)
    executor.fail_next = RuntimeError("device lost")
    failed = sequence([1, 2, 3])
    loop.submit([failed])
    with pytest.raises(ExecutorError, match="device lost"):
        failed.generation.result()
    after = sequence([1, 2, 3])
    loop.submit([after])
    assert list(after.generation.result().token_ids) == executor.greedy([1, 2, 3], 8)
    loop.close()


class Poisoned(NumpyExecutor):
    """Gives no numbers after one token."""

    poison = -1

    def step(self, step: StepInput) -> Float32s:
        logits = super().step(step)
        logits[step.token_ids[step.logits_rows] == self.poison, 5] = np.nan
        return logits


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_no_numbers_end_one_answer_and_leave_nothing_to_share(temperature: float) -> None:
    executor = Poisoned()
    loop = StepLoop(executor)
    expected = executor.greedy([1] * 12, 20)
    executor.poison = next(token for token in range(2, 61) if token not in expected)
    prompt = [executor.poison + 1] * 9 + [executor.poison]
    bad, good = sequence(prompt, temperature=temperature), sequence([1] * 12, 20)
    loop.submit([bad, good])
    with pytest.raises(ExecutorError, match="not numbers"):
        bad.generation.result()
    assert list(good.generation.result().token_ids) == expected
    again = sequence(prompt)
    loop.submit([again])
    with pytest.raises(ExecutorError, match="not numbers"):
        again.generation.result()
    assert again.generation.cached_tokens == 0
    loop.close()
    assert loop.scheduler.pool.in_use == 0


def test_closing_ends_every_request() -> None:
    loop = StepLoop(NumpyExecutor(max_batch=1))
    work = [sequence([1], 60) for _ in range(3)]
    loop.submit(work)
    loop.close()
    assert all(w.generation.result().finish_reason in ("cancelled", "length") for w in work)


def test_soak_of_random_arrivals_cancels_and_lengths() -> None:
    """Two hundred requests from four threads over a cache of a few blocks."""
    executor = NumpyExecutor(num_blocks=14, max_batch=3, max_step_tokens=7)
    loop = StepLoop(executor)
    problems: list[str] = []

    def client(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(50):
            prompt = [rng.randrange(3) for _ in range(rng.randrange(1, 25))]
            one = sequence(prompt, count := rng.randrange(1, 25))
            loop.submit([one])
            if rng.random() < 0.3:
                time.sleep(rng.random() * 0.01)
                if one.generation.put(Chunk("", finish_reason="cancelled")):
                    one.cancelled = True
                    loop.cancel(one)
                continue
            if list(one.generation.result().token_ids) != executor.greedy(prompt, count):
                problems.append(f"{prompt} {count}")

    clients = [threading.Thread(target=client, args=(i,)) for i in range(4)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    loop.close()
    assert not problems
    assert loop.scheduler.pool.in_use == 0


def test_without_a_device_all_requests_end_and_none_is_taken() -> None:
    executor = NumpyExecutor(max_batch=2)
    executor.fail_next = DeviceLostError("the card stopped")
    loop = StepLoop(executor)
    sequences = [sequence([i]) for i in range(1, 6)]
    loop.submit(sequences)
    for one in sequences:
        with pytest.raises(DeviceLostError, match="the card stopped"):
            one.generation.result()
    with pytest.raises(DeviceLostError, match="the card stopped"):
        loop.submit([sequence([9])])
    assert (loop.running, loop.waiting, loop.scheduler.pool.in_use) == (0, 0, 0)
    loop.close()

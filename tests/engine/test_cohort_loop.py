"""The cohort loop: who runs together, who waits, and that nobody starves or is lost."""

from __future__ import annotations

import random
import threading
import time

import pytest

from edgellm.backends.params import SamplingParams
from edgellm.engine.cohort_loop import CohortLoop
from edgellm.engine.generation import Chunk, Generation
from edgellm.engine.sequence import Sequence
from edgellm.errors import ExecutorError
from tests.engine.numpy_executor import NumpyExecutor, NumpyRequestExecutor

MODEL = NumpyExecutor()


def sequence(
    prompt: list[int], max_tokens: int = 6, ends: frozenset[int] = frozenset(), **params: object
) -> Sequence:
    settings = SamplingParams(**({"temperature": 0.0} | params))  # type: ignore[arg-type]
    return Sequence(
        Generation(1, prompt, settings, lambda _: None), max_tokens, ends, lambda ids: "x" * len(ids)
    )


def test_requests_submitted_together_share_a_cohort_and_get_their_own_answers() -> None:
    executor = NumpyRequestExecutor(MODEL)
    loop = CohortLoop(executor)
    work = [sequence([i, i + 1], 3 + i) for i in range(4)]
    loop.submit(work)
    for i, one in enumerate(work):
        assert list(one.generation.result().token_ids) == MODEL.greedy([i, i + 1], 3 + i)
    loop.close()
    assert len(executor.cohorts) == 1


def test_different_settings_or_lengths_do_not_mix() -> None:
    executor = NumpyRequestExecutor(MODEL, max_batch=8, workers=1)
    loop = CohortLoop(executor)
    work = [
        sequence([1, 2]),
        sequence([1, 2], temperature=0.5),
        sequence([1] * 40),
        sequence([3, 4], stop=("zzz",)),
        sequence([3, 4], temperature=0.5, seed=4),
        sequence([3, 4], temperature=0.5, seed=4),
        sequence([1] * 42, seed=7),  # greedy: the seed means nothing
    ]
    loop.submit(work)
    for one in work:
        one.generation.result()
    loop.close()
    sizes = sorted(len(c.prompts) for c in executor.cohorts)
    assert sizes == [1, 1, 1, 2, 2]
    assert [c.seed for c in executor.cohorts].count(4) == 2


def test_the_oldest_waiting_request_is_always_next() -> None:
    """A stream of short prompts must not starve a long one."""
    executor = NumpyRequestExecutor(MODEL, max_batch=2, workers=1, pause=0.001)
    loop = CohortLoop(executor)
    loop.submit([sequence([1, 2], 20)])
    time.sleep(0.02)
    long = sequence([1] * 40, 2)
    loop.submit([long])
    loop.submit([sequence([1, 2], 20) for _ in range(10)])
    long.generation.result()
    assert list(executor.cohorts[1].prompts[0]) == [1] * 40
    loop.close()


def test_a_second_worker_takes_late_requests_at_once() -> None:
    executor = NumpyRequestExecutor(MODEL, workers=2, pause=0.01)
    loop = CohortLoop(executor)
    early = sequence([1, 2], 50)
    loop.submit([early])
    next(iter(early.generation))
    late = sequence([3, 4], 2)
    loop.submit([late])
    late.generation.result()
    assert not early.generation.done
    loop.close()


def test_cancelling_a_running_row_leaves_at_its_next_token_and_a_waiting_one_never_starts() -> None:
    executor = NumpyRequestExecutor(MODEL, max_batch=1, workers=1, pause=0.005)
    loop = CohortLoop(executor)
    running, waiting, other = sequence([1, 2], 60), sequence([3], 5), sequence([4], 2)
    loop.submit([running, waiting, other])
    next(iter(running.generation))
    for one in (running, waiting):
        one.generation.put(Chunk("", finish_reason="cancelled"))
        one.cancelled = True
        loop.cancel(one)
    assert other.generation.result().finish_reason == "length"
    assert running.generation.result().finish_reason == "cancelled"
    assert all(list(c.prompts[0]) != [3] for c in executor.cohorts)
    while loop.running:
        time.sleep(0.001)
    loop.close()


def test_end_tokens_and_stop_texts_end_single_rows() -> None:
    answer = MODEL.greedy([5, 6], 9)
    at = next(i for i, token in enumerate(answer) if i >= 2 and token not in answer[:i])
    executor = NumpyRequestExecutor(MODEL)
    loop = CohortLoop(executor)
    ended = sequence([5, 6], 20, frozenset({answer[at]}))
    stopped = sequence([5, 6], 20, stop=("xx",))
    loop.submit([ended])
    loop.submit([stopped])
    result = ended.generation.result()
    assert (result.finish_reason, list(result.token_ids)) == ("stop", answer[:at])
    result = stopped.generation.result()
    assert (result.finish_reason, result.text) == ("stop", "")
    loop.close()


def test_a_failing_cohort_fails_its_requests_only() -> None:
    executor = NumpyRequestExecutor(MODEL)
    loop = CohortLoop(executor)
    executor.fail_next = MemoryError("no memory")
    bad = sequence([1])
    loop.submit([bad])
    with pytest.raises(ExecutorError, match="no memory"):
        bad.generation.result()
    good = sequence([1])
    loop.submit([good])
    assert good.generation.result().finish_reason == "length"
    assert loop.running == loop.waiting == 0
    loop.close()


def test_random_clients_lose_nothing() -> None:
    executor = NumpyRequestExecutor(MODEL, max_batch=3, workers=2)
    loop = CohortLoop(executor)
    wrong: list[int] = []

    def client(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(12):
            prompt = [rng.randrange(60) for _ in range(rng.randrange(1, 30))]
            one = sequence(prompt, count := rng.randrange(1, 12))
            loop.submit([one])
            if rng.random() < 0.2:
                if one.generation.put(Chunk("", finish_reason="cancelled")):
                    one.cancelled = True
                    loop.cancel(one)
            elif list(one.generation.result().token_ids) != MODEL.greedy(prompt, count):
                wrong.append(seed)

    threads = [threading.Thread(target=client, args=(i,)) for i in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    deadline = time.monotonic() + 5
    while loop.running and time.monotonic() < deadline:
        time.sleep(0.005)
    assert loop.running == loop.waiting == 0
    loop.close()
    assert not wrong

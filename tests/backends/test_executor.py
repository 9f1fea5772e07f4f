"""What one cohort does: ends, lengths, sampling, seeds, log-probabilities, errors."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from edgellm.backends.base import LoadOptions
from edgellm.backends.ctranslate2.backend import load_directory
from edgellm.backends.ctranslate2.executor import CTranslate2Executor
from edgellm.backends.executor import Cohort
from edgellm.backends.params import SamplingParams
from edgellm.errors import BundleError, ExecutorError
from tests.backends.build import GREEDY, build, checkpoint, generate, model
from tests.golden.cases import CONTEXT, golden


@pytest.fixture
def executor() -> CTranslate2Executor:
    return model("llama").executor


PROMPT = golden("llama").prompt
TOKENS = golden("llama").tokens


def test_limits_and_supported_settings(executor: CTranslate2Executor) -> None:
    assert (executor.mode, executor.limits.vocab_size, executor.limits.context) == ("request", 384, CONTEXT)
    assert executor.limits.workers == 2
    assert {
        "temperature",
        "top_k",
        "top_p",
        "repetition_penalty",
        "min_tokens",
        "logprobs",
    } <= executor.supported
    assert not executor.supported & {"min_p", "presence_penalty", "frequency_penalty", "logit_bias"}
    if sys.platform == "linux":
        assert "seed" in executor.supported


# -- ends and lengths


def test_each_row_ends_at_its_own_length(executor: CTranslate2Executor) -> None:
    rows = generate(executor, [PROMPT] * 4, tokens=[1, 7, 64, 30])
    assert rows == [TOKENS[:1], TOKENS[:7], TOKENS, TOKENS[:30]]


def test_end_tokens_end_a_row_and_are_not_reported(executor: CTranslate2Executor) -> None:
    first, second = TOKENS[20], TOKENS[9]
    ends = [TOKENS.index(first), TOKENS.index(second)]
    assert generate(executor, [PROMPT], end_ids=(first,)) == [TOKENS[: ends[0]]]
    assert generate(executor, [PROMPT], end_ids=(first, second)) == [TOKENS[: min(ends)]]


def test_without_end_tokens_nothing_ends_early(executor: CTranslate2Executor) -> None:
    """The model's own end token is among those it would choose."""
    rigged = TOKENS[5]
    assert generate(executor, [PROMPT], end_ids=(rigged,))[0] == TOKENS[: TOKENS.index(rigged)]
    assert generate(executor, [PROMPT], end_ids=())[0] == TOKENS


def test_one_row_ends_and_the_others_go_on(executor: CTranslate2Executor) -> None:
    other = list(reversed(PROMPT))
    alone = generate(executor, [other])[0]
    end = next(token for token in TOKENS if token not in alone)
    assert generate(executor, [PROMPT, other], end_ids=(end,)) == [TOKENS[: TOKENS.index(end)], alone]


@pytest.mark.parametrize("prompts", [[PROMPT], [PROMPT, PROMPT[:10]], [PROMPT[:1], PROMPT, PROMPT[:2]]])
def test_min_tokens_bans_end_tokens_until_then(
    executor: CTranslate2Executor, prompts: list[list[int]]
) -> None:
    free = [generate(executor, [prompt], tokens=12)[0] for prompt in prompts]
    ends = tuple({row[0] for row in free})
    assert all(not row for row in generate(executor, prompts, tokens=40, end_ids=ends))
    params = SamplingParams(temperature=0, min_tokens=9)
    rows = generate(executor, prompts, params, 40, end_ids=ends)
    assert all(len(row) >= 9 and not set(row) & set(ends) for row in rows)
    assert rows == [generate(executor, [prompt], params, 40, end_ids=ends)[0] for prompt in prompts]


def test_min_tokens_beyond_the_maximum_is_the_maximum(executor: CTranslate2Executor) -> None:
    params = SamplingParams(temperature=0, min_tokens=100)
    assert len(generate(executor, [PROMPT], params, 5, end_ids=(TOKENS[2],))[0]) == 5


@pytest.mark.parametrize("lengths", [(1,), (1, 24), (1, 2, 3), (5, 24, 2)])
def test_prompts_of_different_lengths_in_one_cohort(
    executor: CTranslate2Executor, lengths: tuple[int, ...]
) -> None:
    prompts = [PROMPT[:n] for n in lengths]
    together = generate(executor, prompts, tokens=[10 + i for i in range(len(prompts))])
    assert together == [generate(executor, [p], tokens=10 + i)[0] for i, p in enumerate(prompts)]


def test_a_prompt_that_fills_the_context_but_one(executor: CTranslate2Executor) -> None:
    prompt = (PROMPT * 6)[: CONTEXT - 1]
    assert len(generate(executor, [prompt], tokens=1)[0]) == 1


# -- the callback


def test_the_callback_ends_a_row_at_once(executor: CTranslate2Executor) -> None:
    seen: list[list[int]] = [[], []]

    def on_token(row: int, token: int, logprob: float | None) -> bool:
        assert logprob is None
        seen[row].append(token)
        return row == 1 and len(seen[row]) == 3

    executor.run(Cohort([PROMPT, PROMPT], GREEDY, [64, 64]), on_token)
    assert seen == [TOKENS, TOKENS[:3]]


def test_an_exception_in_the_callback_comes_out_and_ends_the_cohort(executor: CTranslate2Executor) -> None:
    calls = 0

    class CallbackError(Exception):
        pass

    def on_token(row: int, token: int, logprob: float | None) -> bool:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise CallbackError("in the callback")
        return False

    with pytest.raises(CallbackError, match="in the callback"):
        executor.run(Cohort([PROMPT, PROMPT], GREEDY, [64, 64]), on_token)
    assert calls == 6
    assert generate(executor, [PROMPT]) == [TOKENS]


# -- log-probabilities


def test_logprobs_are_those_of_the_reference(executor: CTranslate2Executor) -> None:
    reference = golden("llama")
    scores: list[float | None] = []
    params = SamplingParams(temperature=0, logprobs=0)
    executor.run(Cohort([PROMPT], params, [64]), lambda row, token, logprob: bool(scores.append(logprob)))
    assert len(scores) == 64
    for position, logits in zip(reference.positions, reference.logits, strict=True):
        step = int(position) + 1 - len(PROMPT)  # logits at a place choose the token after it
        if 0 <= step < 64:
            wide = logits.astype(np.float64)
            expected = wide.max() - np.log(np.exp(wide - wide.max()).sum()) - wide.max()
            assert scores[step] == pytest.approx(expected, abs=1e-4)


def test_logprobs_of_sampled_tokens_ignore_the_temperature(executor: CTranslate2Executor) -> None:
    """Each sampled token's log-probability is the model's own, so that its exponential is a probability."""
    params = SamplingParams(temperature=3.0, top_k=5, logprobs=0)
    got: list[tuple[int, float]] = []

    def on_token(row: int, token: int, logprob: float | None) -> bool:
        assert logprob is not None
        got.append((token, logprob))
        return False

    executor.run(Cohort([PROMPT], params, [12]), on_token)
    sequence = PROMPT + [token for token, _ in got]
    logits = np.asarray(executor._library.open().forward_batch([sequence]))[0].astype(np.float64)
    for i, (token, logprob) in enumerate(got):
        row = logits[len(PROMPT) - 1 + i]
        expected = row[token] - row.max() - np.log(np.exp(row - row.max()).sum())
        assert logprob == pytest.approx(expected, abs=1e-4)
        assert np.sum(row > row[token]) < 5  # top_k


# -- sampling


def test_sampled_tokens_follow_temperature_and_truncation(executor: CTranslate2Executor) -> None:
    """Frequencies of the first token over many draws against the distribution that the settings define."""
    params = SamplingParams(temperature=0.7, top_k=20, top_p=0.8)
    draws = 64 * 30
    counts = np.zeros(384)
    for _ in range(30):
        for row in generate(executor, [PROMPT] * 64, params, 1):
            counts[row[0]] += 1
    logits = np.asarray(executor._library.open().forward_batch([PROMPT]))[0, -1].astype(np.float64)
    order = np.argsort(-logits)[:20]
    weights = np.exp((logits[order] - logits[order[0]]) / 0.7)
    weights /= weights.sum()
    kept = int(np.searchsorted(np.cumsum(weights), 0.8)) + 1
    expected = np.zeros(384)
    expected[order[:kept]] = weights[:kept] / weights[:kept].sum()
    assert not counts[expected == 0].any()
    # Five standard deviations of a binomial count.
    assert (np.abs(counts - draws * expected) <= 5 * np.sqrt(draws * expected) + 1e-9).all()


def test_top_k_of_one_and_beyond_the_vocabulary(executor: CTranslate2Executor) -> None:
    assert generate(executor, [PROMPT], SamplingParams(top_k=1)) == [TOKENS]
    assert len(generate(executor, [PROMPT], SamplingParams(top_k=10_000), 5)[0]) == 5


def test_a_tiny_temperature_is_greedy(executor: CTranslate2Executor) -> None:
    assert generate(executor, [PROMPT], SamplingParams(temperature=1e-30)) == [TOKENS]


def test_repetition_penalty_counts_prompt_and_answer(executor: CTranslate2Executor) -> None:
    """Against the definition, step by step, on logits of whole sequences."""
    params = SamplingParams(temperature=0, repetition_penalty=1.3)
    prompts = [PROMPT, PROMPT[:9]]
    together = generate(executor, prompts, params, 20)
    for prompt, row in zip(prompts, together, strict=True):
        sequence = list(prompt)
        for token in row:
            logits = np.asarray(executor._library.open().forward_batch([sequence]))[0, -1].copy()
            seen = list(set(sequence[1:]))
            logits[seen] = np.where(logits[seen] > 0, logits[seen] / 1.3, logits[seen] * 1.3)
            assert logits[token] >= logits.max() - 1e-4
            sequence.append(token)
    assert together[0] != TOKENS[:20]
    assert "repetition_penalty" in executor.costly


# -- life and death


def test_two_cohorts_run_at_once(executor: CTranslate2Executor) -> None:
    """One waits inside its callback until the other has run to its end."""
    other_done = threading.Event()
    waited: list[bool] = []

    def patient(row: int, token: int, logprob: float | None) -> bool:
        waited.append(other_done.wait(timeout=60))
        return True

    thread = threading.Thread(target=executor.run, args=(Cohort([PROMPT], GREEDY, [8]), patient))
    thread.start()
    assert generate(executor, [PROMPT]) == [TOKENS]
    other_done.set()
    thread.join()
    assert waited == [True]


def test_closing_ends_what_runs(tmp_path: Path) -> None:
    build(checkpoint("llama"), tmp_path / "model", "fp32")
    executor = load_directory(
        tmp_path / "model", model("llama").config, "fp32", CONTEXT, LoadOptions(threads=1)
    )
    started, errors = threading.Event(), []

    def slow(row: int, token: int, logprob: float | None) -> bool:
        started.set()
        return False

    def run() -> None:
        try:
            while True:
                executor.run(Cohort([PROMPT], GREEDY, [64]), slow)
        except ExecutorError as error:
            errors.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    assert started.wait(60)
    executor.close()
    thread.join(60)
    assert not thread.is_alive() and "closed" in errors[0]
    with pytest.raises(ExecutorError, match="closed"):
        generate(executor, [PROMPT])
    executor.close()


def test_a_damaged_model_is_a_bundle_error(tmp_path: Path) -> None:
    build(checkpoint("llama"), tmp_path / "model", "int8")
    config = model("llama").config
    data = (tmp_path / "model" / "model.bin").read_bytes()
    (tmp_path / "model" / "model.bin").write_bytes(data[: len(data) // 2])
    with pytest.raises(BundleError, match="build the bundle again"):
        load_directory(tmp_path / "model", config, "int8", CONTEXT, LoadOptions())
    (tmp_path / "model" / "vocabulary.json").write_text('["a"]')
    with pytest.raises(BundleError, match="1 tokens instead of 384"):
        load_directory(tmp_path / "model", config, "int8", CONTEXT, LoadOptions())

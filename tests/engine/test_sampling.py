"""The sampler against the definition of each setting, written out in the plainest way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgellm.backends.params import SamplingParams
from edgellm.engine.generation import Generation
from edgellm.engine.sampling import UNSOUND, choose, choose_top
from edgellm.engine.sequence import Sequence
from edgellm.errors import RequestError

SETTINGS: list[dict[str, object]] = [
    {"temperature": 0.0, "logprobs": 2},
    {"temperature": 1.0},
    {"temperature": 0.7, "top_p": 0.9},
    {"temperature": 4.0, "top_p": 0.99, "logprobs": 0},
    {"temperature": 1.2, "top_k": 40},
    {"temperature": 1.0, "min_p": 0.05, "presence_penalty": 1.0},
    {"temperature": 0.01, "top_p": 0.5, "repetition_penalty": 1.3},
]
"""One of each way to choose."""


def sequence(prompt: list[int], answer: list[int] | None = None, **params: object) -> Sequence:
    generation = Generation(1, prompt, SamplingParams(**params), lambda _: None)  # type: ignore[arg-type]
    made = Sequence(generation, 1000, frozenset({0}), lambda ids: "")
    made.tokens += answer or []
    return made


def distribution(logits: np.ndarray, p: SamplingParams) -> np.ndarray:
    """Probabilities after temperature, top-k, top-p and min-p, straight from their definitions."""
    scaled = logits.astype(np.float64) / p.temperature
    probs = np.exp(scaled - scaled.max())
    probs /= probs.sum()
    order = np.argsort(-probs, kind="stable")
    allowed = np.ones(len(probs), bool)
    if p.top_k:
        allowed[order[p.top_k :]] = False
    kept = np.where(allowed, probs, 0)
    kept /= kept.sum()
    if p.top_p < 1:
        before = np.cumsum(kept[order]) - kept[order]
        allowed[order[before >= p.top_p]] = False
    allowed &= probs >= p.min_p * probs.max()
    kept = np.where(allowed, probs, 0)
    return kept / kept.sum()


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from([0.05, 0.3, 1.0, 2.5]),
    st.sampled_from([0, 1, 3, 700]),
    st.sampled_from([1.0, 0.9, 0.4]),
    st.sampled_from([0.0, 0.05, 0.5]),
    st.sampled_from([20, 1500, 20_001]),
)
def test_only_allowed_tokens_are_drawn(
    seed: int, temperature: float, top_k: int, top_p: float, min_p: float, vocab: int
) -> None:
    logits = np.random.default_rng(seed).standard_normal((1, vocab)).astype(np.float32) * 3
    params = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p, "seed": seed}
    expected = distribution(logits[0], SamplingParams(**params))  # type: ignore[arg-type]
    one = sequence([1], **params)
    for _ in range(20):
        ((token, _),) = choose(logits.copy(), [one])
        assert expected[token] > 0


@pytest.mark.parametrize(
    "params",
    [
        {"temperature": 1.0},
        {"temperature": 0.7, "top_k": 5},
        {"temperature": 1.5, "top_p": 0.8},
        {"temperature": 1.0, "min_p": 0.2},
        {"temperature": 0.9, "top_k": 6, "top_p": 0.9, "min_p": 0.05},
    ],
)
def test_draws_follow_the_distribution(params: dict[str, float]) -> None:
    logits = np.random.default_rng(3).standard_normal((1, 12)).astype(np.float32)
    one = sequence([1], seed=5, **params)
    counts = np.zeros(12)
    for _ in range(6000):
        counts[choose(logits.copy(), [one])[0][0]] += 1
    expected = distribution(logits[0], one.params)
    assert np.abs(counts / counts.sum() - expected).max() < 0.025


@pytest.mark.parametrize(
    "params",
    [
        {"temperature": 1.0},
        {"temperature": 3.0, "top_p": 0.97},
        {"temperature": 0.5, "top_p": 0.8},
        {"temperature": 1.0, "top_k": 900, "top_p": 0.95},
        {"temperature": 0.7, "min_p": 0.01},
    ],
)
def test_draws_follow_the_distribution_over_a_large_vocabulary(params: dict[str, float]) -> None:
    """Counted in bins of the likeliest tokens; every way through the sampler is taken by one of these."""
    vocab, draws = 20_001, 4000
    logits = (np.random.default_rng(8).standard_normal((1, vocab)) * 2).astype(np.float32)
    one = sequence([1], seed=6, **params)
    expected = distribution(logits[0], one.params)
    order = np.argsort(-expected)
    bins = np.searchsorted(np.cumsum(expected[order]), np.linspace(0.1, 0.9, 9))
    bin_of = np.empty(vocab, np.int64)
    bin_of[order] = np.searchsorted(bins, np.arange(vocab), side="left")
    share = np.bincount(bin_of, expected, minlength=10)
    counts = np.bincount([bin_of[choose(logits.copy(), [one])[0][0]] for _ in range(draws)], minlength=10)
    assert np.abs(counts / draws - share).max() < 4 * np.sqrt(0.25 / draws)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([11, 2048, 17_003, 32_000]))
def test_a_row_gets_its_token_in_any_company(seed: int, vocab: int) -> None:
    """Whatever settings the other rows have: what is done for several rows at once must not show."""
    rng = np.random.default_rng(seed)
    logits = (rng.standard_normal((7, vocab)) * rng.choice([0.5, 3, 12])).astype(np.float32)

    def chosen(rows: list[int]) -> dict[int, object]:
        sequences = [sequence([1, 2, 3], [4, 4], seed=seed, **SETTINGS[i]) for i in rows]
        return dict(zip(rows, choose(logits[rows].copy(), sequences), strict=True))

    together = chosen(list(range(7)))
    some = rng.permutation(7)[: rng.integers(2, 7)].tolist()
    for i, choice in chosen(some).items():
        assert choice == together[i]
    for i in range(7):
        assert chosen([i])[i] == together[i]


def test_counts_of_tokens_keep_up_with_a_growing_text() -> None:
    rng = np.random.default_rng(2)
    one = sequence(rng.integers(0, 300, 200).tolist(), frequency_penalty=0.1)
    for _ in range(50):
        one.tokens += rng.integers(0, 300, 7).tolist()
        for counts, text in ((one.seen, one.tokens), (one.answered, one.tokens[200:])):
            found = dict(zip(counts.ids.tolist(), counts.counts.tolist(), strict=True))
            assert found == {token: text.count(token) for token in set(text)}


def test_a_seed_fixes_the_draws_in_any_batch() -> None:
    rng = np.random.default_rng(1)
    steps = rng.standard_normal((30, 5, 50)).astype(np.float32)

    def run(rows: list[int]) -> list[int]:
        sequences = [sequence([1], seed=i, temperature=1.0, top_p=0.95) for i in rows]
        return [choose(logits[rows].copy(), sequences)[rows.index(2)][0] for logits in steps]

    assert run([2]) == run([0, 1, 2, 3, 4]) == run([4, 2])


def test_penalties_and_bias_change_the_logits_as_defined() -> None:
    logits = np.array([[0.0, 2.0, 3.0, -1.0, 1.0]], np.float32)
    one = sequence([2, 3], [1, 1], temperature=0, repetition_penalty=2.0, logprobs=0)
    row = logits.copy()
    choose(row, [one])
    np.testing.assert_allclose(row[0], [0.0, 1.0, 1.5, -2.0, 1.0])
    one = sequence([2, 3], [1, 1], temperature=0, presence_penalty=0.5, frequency_penalty=0.25)
    row = logits.copy()
    choose(row, [one])
    np.testing.assert_allclose(row[0], [0.0, 2.0 - 0.5 - 0.5, 3.0, -1.0, 1.0])
    one = sequence([2], temperature=0, logit_bias={3: 50.0, 2: -50.0})
    assert choose(logits.copy(), [one])[0][0] == 3


def test_end_tokens_wait_for_min_tokens() -> None:
    logits = np.array([[9.0, 1.0, 2.0]], np.float32)
    assert choose(logits.copy(), [sequence([1], temperature=0, min_tokens=2)])[0][0] == 2
    assert choose(logits.copy(), [sequence([1], [2, 2], temperature=0, min_tokens=2)])[0][0] == 0


def test_logprobs_are_the_log_softmax() -> None:
    logits = np.random.default_rng(0).standard_normal((1, 9)).astype(np.float32)
    ((token, logprob),) = choose(logits.copy(), [sequence([1], temperature=0, logprobs=3)])
    expected = logits[0] - np.log(np.exp(logits[0]).sum())
    assert logprob is not None and logprob.token_id == token == int(expected.argmax())
    assert abs(logprob.logprob - expected[token]) < 1e-5
    assert [i for i, _ in logprob.top] == np.argsort(-expected)[:3].tolist()


@pytest.mark.parametrize(
    "bad",
    [
        {"temperature": -1},
        {"temperature": float("nan")},
        {"top_p": 0},
        {"top_p": 1.5},
        {"max_tokens": 0},
        {"stop": ("",)},
        {"stop": ("x",) * 17},
        {"logit_bias": {1: 200.0}},
        {"seed": -1},
        {"logprobs": 21},
        {"temperature": "hot"},
    ],
)
def test_senseless_settings_are_refused(bad: dict[str, object]) -> None:
    from edgellm.bundle.manifest import SamplingDefaults

    with pytest.raises(RequestError, match=next(iter(bad)) + "|type"):
        SamplingParams.from_defaults(SamplingDefaults(), **bad)


def test_tokens_of_given_seeds_stay_what_they_are() -> None:
    """Who repeats a request with its seed gets the answer of an earlier version."""
    every: list[dict[str, object]] = [
        {"temperature": 0.0},
        *SETTINGS,
        {"temperature": 0.0, "frequency_penalty": 0.5, "logit_bias": {7: 3.0}},
        {"temperature": 1e-9},
    ]
    logits = np.random.default_rng(5).standard_normal((10, 2048)).astype(np.float32) * 3
    found = choose(logits, [sequence([1, 2, 3], [4, 4], seed=5, **params) for params in every])
    assert [token for token, _ in found] == [639, 474, 1406, 1673, 1661, 1342, 941, 1934, 1740, 1703]


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_rows_that_are_no_numbers_give_no_token_and_change_no_other(wrong: float) -> None:
    logits = np.random.default_rng(3).standard_normal((4, 50)).astype(np.float32)
    company = [
        sequence([1]),
        sequence([1], temperature=0.0),
        sequence([1], top_p=0.9, logprobs=2),
        sequence([1]),
    ]
    expected = choose(logits[3:].copy(), [sequence([1], seed=5)])
    company[3] = sequence([1], seed=5)
    spoiled = logits.copy()
    spoiled[:3, 17] = wrong
    chosen = choose(spoiled, company)
    assert [token for token, _ in chosen[:3]] == [UNSOUND] * 3 and chosen[3:] == expected

    top = -np.sort(-logits, axis=1)[:, :8]
    top[0, 2] = wrong
    ids = np.tile(np.arange(8, dtype=np.int32) + 30, (4, 1))
    greedy = [sequence([1], temperature=0.0) for _ in range(4)]
    assert [token for token, _ in choose_top(top, ids, greedy)] == [UNSOUND, 30, 30, 30]

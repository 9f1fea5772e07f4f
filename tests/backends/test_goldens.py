"""Every family computes what the reference implementation computes."""

from __future__ import annotations

import numpy as np
import pytest

from tests.backends.build import generate, model
from tests.golden.cases import CASES, CONTEXT, NEW_TOKENS, golden


@pytest.mark.parametrize("name", CASES)
def test_greedy_tokens_equal_the_reference(name: str) -> None:
    reference = golden(name)
    assert reference.margin > 1e-3
    assert generate(model(name).executor, [reference.prompt]) == [reference.tokens]


@pytest.mark.parametrize("name", CASES)
def test_logits_are_close_to_the_reference(name: str) -> None:
    """The library's own pass over a whole sequence ignores windows, so those cases stop where one begins."""
    reference, built = golden(name), model(name)
    sequence = reference.prompt + reference.tokens
    window = built.config.sliding_window or len(sequence)
    places = [i for i, position in enumerate(reference.positions) if position < window]
    generator = built.executor._library.open()
    logits = np.asarray(generator.forward_batch([sequence]))[0][reference.positions[places]]
    assert len(places) >= 2
    np.testing.assert_allclose(logits, reference.logits[places], rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["mistral-sliding", "qwen2-sliding", "gemma3", "phi3-sliding"])
def test_the_window_matters_in_the_recorded_cases(name: str) -> None:
    """Built for short sequences only, the window is off: other tokens past it prove that it counted."""
    reference, built = golden(name), model(name)
    window = built.config.sliding_window
    assert window is not None
    executor = model(name, context=window).executor
    tokens = generate(executor, [reference.prompt])[0]
    assert tokens != reference.tokens


@pytest.mark.parametrize("name", ["mistral-sliding-long-prompt", "gemma3-long-prompt"])
def test_prompts_of_any_length_share_a_cohort_with_a_window(name: str) -> None:
    reference, executor = golden(name), model(name).executor
    sequence = reference.prompt + reference.tokens
    prompts = [sequence[:length] for length in (45, 50, 61)]
    expected = [sequence[length : length + 20] for length in (45, 50, 61)]
    assert generate(executor, prompts, tokens=20) == expected
    mixed = [sequence[:length] for length in (3, 45, 18)]
    assert generate(executor, mixed, tokens=20)[1] == sequence[45:65]


@pytest.mark.parametrize("name", ["llama", "qwen2-sliding", "phi3-longrope-long", "gemma3"])
def test_each_row_equals_the_row_alone(name: str) -> None:
    reference, executor = golden(name), model(name).executor
    others = np.random.default_rng(1).integers(5, 380, (6, 40)).tolist()
    prompts = [reference.prompt, *(row[: 20 + 3 * i] for i, row in enumerate(others))]
    together = generate(executor, prompts, tokens=48)
    assert together[0] == reference.tokens[:48]
    assert together == [generate(executor, [prompt], tokens=48)[0] for prompt in prompts]


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma3"])
def test_int8_rows_equal_the_rows_alone(name: str) -> None:
    executor = model(name, "int8").executor
    prompts = np.random.default_rng(2).integers(5, 380, (5, 24)).tolist()
    together = generate(executor, prompts, tokens=48)
    assert together == [generate(executor, [prompt], tokens=48)[0] for prompt in prompts]


@pytest.mark.parametrize("name", CASES)
def test_int8_is_close_to_fp32(name: str) -> None:
    """Random weights are the worst case for quantization; a wrong scale or axis would still stand out."""
    reference = golden(name)
    sequence = (reference.prompt + reference.tokens)[:16]
    exact, rounded = (
        np.asarray(model(name, quant).executor._library.open().forward_batch([sequence]))[0]
        for quant in ("fp32", "int8")
    )
    error = np.sqrt(np.mean((exact - rounded) ** 2) / np.mean(exact**2))
    assert 0 < error < 0.15


def test_recorded_sequences_fit_the_context() -> None:
    assert all(case.prompt + NEW_TOKENS <= CONTEXT for case in CASES.values())

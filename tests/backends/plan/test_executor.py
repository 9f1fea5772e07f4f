"""Steps on both hosts: right numbers, whatever stands beside a token, and copies of blocks."""

from __future__ import annotations

import numpy as np
import pytest

from edgellm.backends.executor import StepInput
from edgellm.errors import ExecutorError
from tests.backends.plan.models import HOSTS, adapter_number, executor, open_program, program
from tests.backends.tvm.models import Sequences
from tests.golden.cases import golden

FAMILIES = ["llama-biases", "qwen2-sliding", "gemma3", "phi3-longrope-long"]
pytestmark = pytest.mark.parametrize("language", sorted(HOSTS))


@pytest.mark.parametrize("name", FAMILIES)
def test_fp32_logits_are_the_references(name: str, language: str) -> None:
    reference = golden(name)
    logits = Sequences(executor(name, language)).step({0: reference.prompt + reference.tokens})[0]
    assert np.abs(logits[reference.positions] - reference.logits).max() < 2e-3
    chosen = logits[len(reference.prompt) - 1 : -1].argmax(axis=-1)
    assert chosen.tolist() == reference.tokens


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_logits_do_not_depend_on_chunks_or_company(name: str, language: str) -> None:
    """Random mixes of chunks and decodes of four sequences, as each sequence at once and alone."""
    rng = np.random.default_rng(7)
    lengths = (88, 61, 17, 33)
    texts = [rng.integers(5, 380, length).tolist() for length in lengths]
    model = executor(name, language)
    alone = [Sequences(model, seed).step({0: text})[0] for seed, text in enumerate(texts)]
    together, done = Sequences(model, 9), [0] * 4
    while any(done[i] < lengths[i] for i in range(4)):
        pieces = {}
        for i in rng.permutation(4).tolist():
            size = min(lengths[i] - done[i], int(rng.choice([0, 1, 1, 2, 5, 16, 23])))
            if size:
                pieces[i] = texts[i][done[i] : done[i] + size]
        for i, logits in (together.step(pieces) if pieces else {}).items():
            expected = alone[i][done[i] : done[i] + len(logits)]
            np.testing.assert_allclose(logits, expected, atol=1e-4, err_msg=f"sequence {i}")
            done[i] += len(logits)


def test_only_the_wanted_rows_come_back(language: str) -> None:
    model = executor("llama", language)
    ids = np.arange(5, 95, dtype=np.int32)
    table = np.array([[3, 1, 7, 0, 9, 4]], np.int32)

    def rows(*wanted: int) -> np.ndarray:
        places, ends = np.arange(90, dtype=np.int32), np.array([0, 90], np.int32)
        return model.step(StepInput(ids, places, ends, ends[1:], table, np.array(wanted, np.int32)))

    everything = rows(*range(90))  # more than a step of the program gives at once
    assert everything.shape == (90, model.limits.vocab_size)
    np.testing.assert_allclose(rows(19, 4), everything[[19, 4]], atol=1e-4)
    assert rows().shape == (0, model.limits.vocab_size)
    everything += 1  # the caller's to change


def test_copied_blocks_hold_all_layers(language: str) -> None:
    model = executor("llama", language)
    rng = np.random.default_rng(3)
    first, other = (rng.integers(5, 380, 33).tolist() for _ in range(2))

    def step(ids: list[int], start: int, table: list[int]) -> np.ndarray:
        end = start + len(ids)
        starts = np.array([0, len(ids)], np.int32)
        last = np.array([len(ids) - 1], np.int32)
        places = np.arange(start, end, dtype=np.int32)
        tokens, ends = np.array(ids, np.int32), np.array([end], np.int32)
        return model.step(StepInput(tokens, places, starts, ends, np.array([table], np.int32), last))

    step(first, 0, [0, 1, 2])
    step(other, 0, [5, 6, 7])
    expected = step([9], 33, [0, 1, 2])
    assert np.abs(step([9], 33, [5, 6, 7]) - expected).max() > 0.1
    for source, target in ((0, 10), (2, 7), (1, 6), (10, 5)):
        model.copy_block(source, target)
    np.testing.assert_array_equal(step([9], 33, [5, 6, 7]), expected)


def test_a_closed_executor_says_so(language: str) -> None:
    folder = program("llama", "fp32", (f"{language}-fp32",))
    model = open_program(folder, "llama", adapter_number(language))
    Sequences(model).step({0: [5, 6, 7]})
    model.close()
    model.close()
    with pytest.raises(ExecutorError, match="has been closed"):
        Sequences(model).step({0: [5, 6, 7]})

"""Steps on both hosts: right numbers, whatever stands beside a token, and copies of blocks."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from edgellm.backends.executor import StepInput
from edgellm.backends.plan.launches import routine_of
from edgellm.errors import ExecutorError
from tests.backends.plan.models import HOSTS, adapter_number, executor, open_program, program
from tests.backends.tvm.models import Sequences, mixed, rows
from tests.golden.cases import CASES, golden

pytestmark = pytest.mark.parametrize("language", sorted(HOSTS))


@pytest.mark.parametrize("name", CASES)
def test_fp32_logits_are_the_references(name: str, language: str) -> None:
    """In pieces that every routine of the program runs: prompts, some sequences' tokens, and one's."""
    reference = golden(name)
    model = open_program(program(name, "fp32", (f"{language}-fp32",)), name, adapter_number(language))
    sequence, ids = Sequences(model), reference.prompt + reference.tokens
    ends = [0, *(len(ids) - rest for rest in (35, 13, 5, 1, 0))]
    pieces = [ids[start:end] for start, end in pairwise(ends)]
    assert {routine_of(model.plan, len(piece)) for piece in pieces} == set(range(5))
    logits = np.concatenate([sequence.step({0: piece})[0] for piece in pieces])
    model.close()
    assert np.abs(logits[reference.positions] - reference.logits).max() < 2e-3
    chosen = logits[len(reference.prompt) - 1 : -1].argmax(axis=-1)
    assert chosen.tolist() == reference.tokens


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_logits_do_not_depend_on_chunks_or_company(name: str, language: str) -> None:
    for sequence, logits, alone in mixed(executor(name, language)):
        np.testing.assert_allclose(logits, alone, atol=1e-4, err_msg=f"sequence {sequence}")


def test_only_the_wanted_rows_come_back(language: str) -> None:
    model = executor("llama", language)
    table = [3, 1, 7, 0, 9, 4]
    everything = rows(model, 90, table, *range(90))  # more than a step of the program gives at once
    assert everything.shape == (90, model.limits.vocab_size)
    np.testing.assert_allclose(rows(model, 90, table, 19, 4), everything[[19, 4]], atol=1e-4)
    assert rows(model, 90, table).shape == (0, model.limits.vocab_size)
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


def test_long_steps_are_handed_over_in_parts_and_short_ones_whole(
    language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = executor("llama", language)
    sequences = Sequences(model)
    handed: list[int] = []
    queue = model.host._queue  # type: ignore[union-attr]
    method = {"wgsl": "submit", "opencl": "flush"}[language]
    real = getattr(type(queue), method)
    monkeypatch.setattr(type(queue), method, lambda *all: (handed.append(1), real(*all))[1])
    launches = {routine.most: len(routine.launches) for routine in model.plan.routines}
    for tokens in (64, 1, 2):
        handed.clear()
        sequences.step({0: [5] * tokens})
        most = model.plan.routines[routine_of(model.plan, tokens)].most
        assert len(handed) == (1 if tokens < 8 else -(-launches[most] // 16)), (tokens, most)
    assert max(launches.values()) > 16


def test_a_closed_executor_says_so(language: str) -> None:
    folder = program("llama", "fp32", (f"{language}-fp32",))
    model = open_program(folder, "llama", adapter_number(language))
    Sequences(model).step({0: [5, 6, 7]})
    model.close()
    model.close()
    with pytest.raises(ExecutorError, match="has been closed"):
        Sequences(model).step({0: [5, 6, 7]})

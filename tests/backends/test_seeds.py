"""The same request with the same seed gives the same tokens: in any process, worker and company."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from edgellm.backends.ctranslate2.executor import CTranslate2Executor
from edgellm.backends.params import SamplingParams
from tests.backends.build import HOT, checkpoint, generate, model
from tests.golden.cases import golden

REPOSITORY = Path(__file__).resolve().parents[2]
PROMPT = golden("llama").prompt

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the generator cannot be reached there")


@pytest.fixture
def executor() -> CTranslate2Executor:
    return model("llama").executor


@pytest.mark.parametrize("length", [1, 2, 3, 24])
def test_the_same_seed_gives_the_same_tokens(executor: CTranslate2Executor, length: int) -> None:
    prompt = PROMPT[:length]
    first = generate(executor, [prompt], HOT, 32, seed=7)
    for _ in range(6):  # whatever ran before, on whichever worker
        generate(executor, [PROMPT] * 3, HOT, 5)
        assert generate(executor, [prompt], HOT, 32, seed=7) == first
    assert generate(executor, [prompt], HOT, 32, seed=8) != first
    assert generate(executor, [prompt], HOT, 32, seed=2**63 - 1) != first


@pytest.mark.parametrize("name", ["gemma3-long-prompt", "mistral-sliding-long-prompt"])
def test_seeds_and_windows_together(name: str) -> None:
    executor, prompt = model(name).executor, golden(name).prompt
    assert generate(executor, [prompt], HOT, 32, seed=7) == generate(executor, [prompt], HOT, 32, seed=7)
    # At the lowest temperature the seeded form must read the prompt as the greedy one does.
    cold = SamplingParams(temperature=1e-4)
    assert generate(executor, [prompt], cold, seed=7) == [golden(name).tokens]


def test_seeds_with_other_settings(executor: CTranslate2Executor) -> None:
    for params in (
        SamplingParams(temperature=1.2, repetition_penalty=1.2),
        SamplingParams(temperature=1.2, min_tokens=6, logprobs=0, top_k=30, top_p=0.9),
    ):
        for prompt in (PROMPT, PROMPT[:1]):
            ends = (*range(0, 384, 3),)
            first = generate(executor, [prompt], params, 24, end_ids=ends, seed=3)
            assert generate(executor, [prompt], params, 24, end_ids=ends, seed=3) == first
            assert len(first[0]) >= params.min_tokens


def test_requests_without_a_seed_differ_even_after_a_seeded_one(executor: CTranslate2Executor) -> None:
    answers = []
    for _ in range(8):
        generate(executor, [PROMPT], HOT, 16, seed=1)
        answers.append(tuple(generate(executor, [PROMPT], HOT, 16)[0]))
    assert len(set(answers)) == 8


def test_seeds_hold_while_other_cohorts_run(executor: CTranslate2Executor) -> None:
    expected = generate(executor, [PROMPT], HOT, 48, seed=11)
    stop = threading.Event()

    def noise() -> None:
        while not stop.is_set():
            generate(executor, [PROMPT, PROMPT], HOT, 8)

    thread = threading.Thread(target=noise)
    thread.start()
    try:
        assert all(generate(executor, [PROMPT], HOT, 48, seed=11) == expected for _ in range(20))
    finally:
        stop.set()
        thread.join()


def test_seeds_hold_in_another_process_and_with_other_workers(executor: CTranslate2Executor) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from edgellm.backends.base import LoadOptions\n"
        "from edgellm.backends.ctranslate2.backend import load_directory\n"
        "from tests.backends.build import HOT, checkpoint_config, generate\n"
        "from tests.golden.cases import golden\n"
        "directory, source = map(Path, sys.argv[1:])\n"
        "options = LoadOptions(threads=1, workers=3)\n"
        "executor = load_directory(directory, checkpoint_config(source), 'fp32', 128, options)\n"
        "print(generate(executor, [golden('llama').prompt], HOT, 32, seed=5)[0])\n"
    )
    built = model("llama")
    done = subprocess.run(
        [sys.executable, "-c", script, str(built.directory), str(checkpoint("llama"))],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.strip() == str(generate(executor, [PROMPT], HOT, 32, seed=5)[0])


def test_seeded_draws_follow_the_distribution(executor: CTranslate2Executor) -> None:
    """Over many seeds the first token is distributed as without one, also after a prompt of one token."""
    params = SamplingParams(temperature=0.8, top_k=6)
    for prompt in (PROMPT[:3], PROMPT[:1]):
        counts = np.zeros(384)
        for seed in range(400):
            counts[generate(executor, [prompt], params, 1, seed=seed)[0][0]] += 1
        logits = np.asarray(executor._library.open().forward_batch([prompt]))[0, -1].astype(np.float64)
        order = np.argsort(-logits)[:6]
        expected = np.zeros(384)
        expected[order] = np.exp((logits[order] - logits[order[0]]) / 0.8)
        expected *= 400 / expected.sum()
        assert (np.abs(counts - expected) <= 5 * np.sqrt(expected)).all()

"""What begins like something computed before is not computed again, and gets the same answer."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from edgellm import Engine
from tests.backends.plan.models import use_program
from tests.engine.test_gpu import assert_same
from tests.native.test_engine import ids_of, lines, run

REQUESTS = 24
LENGTH = 20


def next_prompt(rng: random.Random, told: list[list[int]]) -> list[int]:
    """A new text, the next turn of one told before, or one that leaves it somewhere."""
    fresh = [rng.randrange(1, 2000) for _ in range(rng.randrange(1, 50))]
    if not told or rng.random() < 0.2:
        return fresh
    before = rng.choice(told)
    at = len(before) if rng.random() < 0.5 else rng.randrange(len(before))
    return (before[:at] + fresh)[: 256 - LENGTH - 1]


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """An option: the device compiles once."""
    return "--cache", str(tmp_path_factory.mktemp("kernels"))


def memory_for(few: range, program: Path, bundle: Path, *options: str) -> int:
    """Bytes with which the cache has so few blocks."""
    low, high = 1, 16 << 20
    for _ in range(24):
        middle = (low + high) // 2
        done = run(program, bundle, *options, "--memory", str(middle), "--info")
        blocks = json.loads(done.stdout)["blocks"] if done.returncode == 0 else 0
        if blocks in few:
            return middle
        low, high = (middle, high) if blocks < few.start else (low, middle)
    raise AssertionError(done.stderr)


def usages(text: str) -> list[dict[str, int]]:
    return [json.loads(line) for line in text.splitlines()]


def test_as_many_tokens_are_found_again_as_in_python(
    programs: dict[str, Path], demo_gpu: Path, kernels: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests one after the other, in a cache that is soon full."""
    use_program(monkeypatch, "opencl-fp32")
    rng = random.Random(8)
    told: list[list[int]] = []
    expected = []
    with Engine(demo_gpu, max_batch=2, context=256) as engine:
        params = engine.params(temperature=0.0, max_tokens=LENGTH, ignore_eos=True)
        for _ in range(REQUESTS):
            prompt = next_prompt(rng, told)
            [answer] = engine.submit_many([prompt], params)
            expected.append((prompt, answer.result().token_ids, answer.cached_tokens))
            told.append([*prompt, *answer.result().token_ids])
        device = engine.executor.host.adapter.name  # type: ignore[union-attr]
    command = (
        *kernels,
        "--device",
        device,
        "--temperature",
        "0",
        "--max-tokens",
        str(LENGTH),
        "--batch",
        "2",
    )
    command += ("--context", "256", "--ids", "--usage", "--in-turn", "--ignore-end")
    done = run(programs["edgellm-native"], demo_gpu, *command, given=lines([one for one, _, _ in expected]))
    assert ids_of(done) == [answer for _, answer, _ in expected]
    cached = [one["cached_tokens"] for one in usages(done.stderr)]
    assert cached == [count for _, _, count in expected]
    assert sum(cached) > 500 and any(count % 16 for count in cached)
    off = run(
        programs["edgellm-native"], demo_gpu, *command, "--no-prefix-cache", given=lines([expected[0][0]] * 2)
    )
    assert [one["cached_tokens"] for one in usages(off.stderr)] == [0, 0]


def test_answers_are_the_same_with_and_without(
    programs: dict[str, Path], demo_gpu: Path, kernels: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many at a time, with pre-emptions and blocks that have to be given up."""
    use_program(monkeypatch, "opencl-fp32")
    rng = random.Random(9)
    prompts: list[list[int]] = []
    while len(prompts) < REQUESTS:
        prompts.append(next_prompt(rng, prompts))
    with Engine(demo_gpu, max_batch=1) as engine:
        device = engine.executor.host.adapter.name  # type: ignore[union-attr]
        size = (*kernels, "--device", device, "--batch", "6", "--context", "256")
        memory = memory_for(range(20, 30), programs["edgellm-native"], demo_gpu, *size)
        command = (*size, "--memory", str(memory), "--ids", "--usage")
        command += ("--temperature", "0", "--max-tokens", str(LENGTH), "--ignore-end")
        shared, alone = (
            run(programs["edgellm-native"], demo_gpu, *command, *more, given=lines(prompts))
            for more in ((), ("--no-prefix-cache",))
        )
        for prompt, one, other in zip(prompts, ids_of(alone), ids_of(shared), strict=True):
            assert_same(engine.executor, prompt, one, other)
    assert sum(one["cached_tokens"] for one in usages(shared.stderr)) > 300
    assert not any(one["cached_tokens"] for one in usages(alone.stderr))


def test_a_block_may_be_the_last_one_for_its_own_copy(programs: dict[str, Path], demo_gpu: Path) -> None:
    """Four blocks for two conversations: the recording device takes no copy of a block onto itself."""
    size = ("--device", "recording", "--batch", "2", "--context", "64")
    memory = memory_for(range(4, 5), programs["edgellm-native"], demo_gpu, *size)
    rng = random.Random(5)
    prompts: list[list[int]] = []
    while len(prompts) < 60:
        prompts.append(next_prompt(rng, prompts)[:58])
    command = (*size, "--memory", str(memory), "--ids", "--usage", "--ignore-end", "--max-tokens", "6")
    done = run(programs["edgellm-native"], demo_gpu, *command, given=lines(prompts))
    assert [len(answer) for answer in ids_of(done)] == [6] * len(prompts)
    assert sum(one["cached_tokens"] for one in usages(done.stderr)) > 300

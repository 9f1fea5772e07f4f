"""The C engine answers as Python's does through OpenCL, alone and in company, and says what is wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgellm import Engine
from edgellm.resources import data_dir
from tests.backends.plan.models import use_program
from tests.engine.test_gpu import assert_same
from tests.native.programs import FLAGS, NATIVE, compiler

PROMPTS = 50
LENGTH = 12


@pytest.fixture
def program(programs: dict[str, Path]) -> Path:
    return programs["edgellm-native"]


def run(program: Path, bundle: Path, *options: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, bundle, *options], input=given, capture_output=True, text=True)


def ids_of(result: subprocess.CompletedProcess[str]) -> list[tuple[int, ...]]:
    assert result.returncode == 0, result.stderr
    return [tuple(int(one) for one in line.split()) for line in result.stdout.splitlines()]


def lines(prompts: list[list[int]]) -> str:
    return "".join(" ".join(map(str, ids)) + "\n" for ids in prompts)


def test_greedy_answers_are_pythons(program: Path, demo_gpu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_program(monkeypatch, "opencl-fp32")
    questions = (data_dir("models") / "demo" / "heldout.jsonl").read_text().splitlines()[:PROMPTS]
    with Engine(demo_gpu, max_batch=8) as engine:
        prompts = [engine.encode_messages(json.loads(one)["messages"]) for one in questions]
        params = engine.params(temperature=0.0, max_tokens=LENGTH)
        expected = [one.result() for one in engine.submit_many(prompts, params)]
        options = ("--device", engine.executor.host.adapter.name, "--temperature", "0", "--batch", "8")  # type: ignore[union-attr]
        command = (*options, "--max-tokens", str(LENGTH))
        answers = ids_of(run(program, demo_gpu, *command, "--ids", given=lines(prompts)))
        assert len(answers) == PROMPTS
        for prompt, one, got in zip(prompts, expected, answers, strict=True):
            assert_same(engine.executor, prompt, one.token_ids, got)
        texts = run(program, demo_gpu, *command, given=lines(prompts[:8])).stdout
        same = [one.text for one, got in zip(expected[:8], answers, strict=False) if one.token_ids == got]
        assert same and all(text in texts for text in same)
        # A penalty needs whole rows of logits.
        other = (*command, "--ids", "--repetition-penalty", "8")
        params = engine.params(temperature=0.0, max_tokens=LENGTH, repetition_penalty=8.0)
        penalised = [one.result().token_ids for one in engine.submit_many(prompts[:4], params)]
        assert ids_of(run(program, demo_gpu, *other, given=lines(prompts[:4]))) == penalised
        assert penalised != answers[:4]
        prompt = "Which city is the capital of Egypt?"
        raw = run(program, demo_gpu, *command, "--ids", "--prompt", prompt)
        [alone] = engine.submit_many(
            [engine.encode_prompt(prompt, raw=True)], engine.params(temperature=0.0, max_tokens=LENGTH)
        )
        assert ids_of(raw) == [alone.result().token_ids]


def test_scheduling_on_a_recording_device(program: Path, demo_gpu: Path) -> None:
    """Small caches, batches and contexts; seeds; cancelling. The device computes nothing."""
    prompts = lines([[(7 * i + j) % 2000 for j in range(30 + 40 * i)] for i in range(12)])
    common = ("--device", "recording", "--ids", "--temperature", "0.9", "--top-p", "0.9")
    command = (*common, "--max-tokens", "40", "--context", "512", "--seed", "5")
    one = ids_of(run(program, demo_gpu, *command, "--batch", "3", given=prompts))
    assert one == ids_of(run(program, demo_gpu, *command, "--batch", "3", given=prompts))
    assert len(one) == 12 and all(len(ids) <= 40 for ids in one) and sum(map(len, one)) > 200
    other = ids_of(run(program, demo_gpu, *common, "--max-tokens", "40", "--seed", "6", given=prompts))
    assert other != one
    full = ids_of(run(program, demo_gpu, *common, "--context", "64", "--seed", "5", given=lines([[5] * 60])))
    assert len(full[0]) <= 4
    cancelled = run(program, demo_gpu, *common, "--cancel", "3", given=lines([[1, 2, 3]]))
    assert cancelled.returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="its linker replaces the functions that give memory")
def test_requests_end_when_there_is_no_memory(program: Path, demo_gpu: Path, tmp_path: Path) -> None:
    """See out_of_memory.c."""
    source, built = Path(__file__).with_name("out_of_memory.c"), tmp_path / "out_of_memory"
    flags = [*FLAGS, f"-I{NATIVE / 'include'}", "-Wl,--wrap=calloc,--wrap=realloc"]
    objects = sorted(program.parent.glob("*.o"))
    libraries = ["-lm", "-lpthread", "-ldl"]
    subprocess.run([*compiler(), *flags, source, *objects, "-o", built, *libraries], check=True)
    done = subprocess.run([built, demo_gpu], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    told = done.stdout.splitlines()
    assert len(told) == 6 and all("memory" in line for line in told)


@pytest.mark.parametrize(
    ("options", "given", "message"),
    [
        ((), "5000\n", "outside the vocabulary"),
        (("--context", "16"), lines([[1] * 16]), "shorten the prompt"),
        (("--temperature", "200"), "1\n", "temperature is 200"),
        (("--prompt", ""), "", ""),
        (("--batch", "100000"), "1\n", "no such number"),
    ],
)
def test_requests_that_are_refused(
    program: Path, demo_gpu: Path, options: tuple[str, ...], given: str, message: str
) -> None:
    result = run(program, demo_gpu, "--device", "recording", "--max-tokens", "2", *options, given=given)
    if not message:
        assert result.returncode == 0
        return
    assert result.returncode == 1
    assert message in result.stderr and len(result.stderr.splitlines()) == 1


def test_damaged_bundles_are_refused(program: Path, demo_gpu: Path, tmp_path: Path) -> None:
    copy = tmp_path / "bundle"

    def refused(message: str) -> None:
        result = run(program, copy, "--device", "recording", given="1\n")
        assert result.returncode == 1
        assert message in result.stderr and len(result.stderr.splitlines()) == 1
        shutil.rmtree(copy)

    def fresh() -> None:
        shutil.copytree(demo_gpu, copy)

    fresh()
    manifest = copy / "edgellm.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"context": 1024', b'"context": 2048', 1))
    refused("its checksum does not match")
    fresh()
    kernel = copy / "tvm" / "opencl-fp16" / "norm.cl"
    kernel.write_bytes(kernel.read_bytes()[:-1] + b" ")
    refused("SHA-256")
    fresh()
    kernel = copy / "tvm" / "opencl-fp16" / "norm.cl"
    target = tmp_path / "norm.cl"
    shutil.move(kernel, target)
    kernel.symlink_to(target)
    refused("symbolic link")
    fresh()
    os.truncate(copy / "tvm" / "weights-000.bin", 1000)
    refused("instead of")
    fresh()
    manifest.write_bytes(manifest.read_bytes()[:500])
    refused("is no JSON")
    copy.mkdir()
    refused("edgellm.json is missing")

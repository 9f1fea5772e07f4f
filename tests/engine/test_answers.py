"""What a GPU bundle of the demo model answers, beside a reference in numpy and beside the CPU bundle.

The reference is the model's own (`models/demo/reference.py`, float32), with the quantized numbers that the
bundle stores. It reads each answer and says at every place what it would have chosen: where that is always
the answer's token, the answer is the one that the reference would have given.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from edgellm import Engine
from edgellm.backends import LoadOptions, get_backend
from edgellm.bundle import Bundle
from tests.backends.plan.models import PROGRAMS, use_program
from tests.backends.plan.stored import llama_weights
from tests.backends.tvm.models import Sequences
from tests.evaluation.demo import DEMO, module

PROMPTS = 50
NEW_TOKENS = 32
NEAR_TIE = 0.01
"""Between a token's logit and the largest, in the reference."""
CONTEXT = 256


def questions() -> list[list[dict[str, str]]]:
    """Conversations that wait for an answer, from all of the held-out ones."""
    lines = (DEMO / "heldout.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["messages"] for line in lines[:: len(lines) // PROMPTS]][:PROMPTS]


@cache
def answers(bundle: Path, program: str) -> list[tuple[list[int], list[int]]]:
    """(prompt, new tokens) of every question, greedily, past the end of short answers, all in one batch."""
    with pytest.MonkeyPatch.context() as patch:
        use_program(patch, program)
        with Engine(bundle, context=CONTEXT, max_batch=PROMPTS) as engine:
            prompts = [engine.encode_messages(one) for one in questions()]
            greedy = engine.params(temperature=0.0, max_tokens=NEW_TOKENS, ignore_eos=True)
            running = engine.submit_many(prompts, [greedy] * PROMPTS)
            found = [
                (prompt, list(one.result().token_ids)) for prompt, one in zip(prompts, running, strict=True)
            ]
    assert all(len(tokens) == NEW_TOKENS for _, tokens in found)
    return found


@pytest.mark.parametrize("program", PROGRAMS)
def test_answers_are_those_of_the_same_weights_in_numpy(demo_gpu: Path, program: str) -> None:
    reference = module("reference").Reference(DEMO)
    reference.weights = llama_weights(demo_gpu / "tvm", reference.config)
    ties = []
    for prompt, tokens in answers(demo_gpu, program):
        logits = reference.logits(prompt + tokens)[len(prompt) - 1 : -1]
        chosen = logits[np.arange(len(tokens)), tokens]
        for place in np.flatnonzero(logits.max(axis=1) != chosen):
            short = float(logits[place].max() - chosen[place])
            assert short < NEAR_TIE, f"token {place} of {tokens} after {prompt} is {short} from the likeliest"
            ties.append(short)
    print(f"{program}: {PROMPTS * NEW_TOKENS} tokens, {len(ties)} the other of a near-tie")


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_cpu_bundle_agrees(demo_gpu: Path, demo_int4: Path, program: str) -> None:
    """It has the same weights, quantizes activations as well, and has the cache in fp16."""
    found = answers(demo_gpu, program)
    opened = Bundle.open(demo_int4)
    executor = get_backend("tvm").load(opened, LoadOptions(context=CONTEXT, max_batch=PROMPTS))
    sequences = Sequences(executor)  # type: ignore[arg-type]
    agreed = 0
    for number, (prompt, tokens) in enumerate(found):
        logits = sequences.step({number: prompt + tokens})[number][len(prompt) - 1 : -1]
        agreed += int((logits.argmax(axis=1) == tokens).sum())
    with Engine(opened, executor=executor) as engine:
        greedy = engine.params(temperature=0.0, max_tokens=NEW_TOKENS, ignore_eos=True)
        running = engine.submit_many([prompt for prompt, _ in found], [greedy] * PROMPTS)
        alone = [one.result().token_ids for one in running]
    # Of what it says by itself, nothing counts after an answer's first difference.
    alike = [
        next((place for place in range(NEW_TOKENS) if mine[place] != tokens[place]), NEW_TOKENS)
        for mine, (_, tokens) in zip(alone, found, strict=True)
    ]
    told, by_itself = agreed / (PROMPTS * NEW_TOKENS), sum(alike) / (PROMPTS * NEW_TOKENS)
    print(f"{program}: {told:.2%} of the tokens after the same text, {by_itself:.2%} by itself")
    assert told >= 0.95 and by_itself >= 0.95

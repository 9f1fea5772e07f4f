"""`edgellm serve` over a bundle that runs step by step: what only such a server does."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.serving import Process, serve


@pytest.fixture(scope="module")
def step_server(demo_int4: Path) -> Iterator[Process]:
    with serve(demo_int4, "--context", "512", "--max-batch", "3") as running:
        yield running


def chat(server: Process, *contents: str, **settings: Any) -> Any:
    """An answer to a conversation of questions and answers in turn."""
    roles = ("user", "assistant")
    messages: Any = [{"role": roles[i % 2], "content": text} for i, text in enumerate(contents)]
    settings = {"temperature": 0, "max_tokens": 40} | settings
    return server.client().chat.completions.create(model=server.model, messages=messages, **settings)


def test_a_server_says_how_it_runs_and_what_it_takes(step_server: Process) -> None:
    ready = step_server.ready
    assert (ready["mode"], ready["context"]) == ("step", 512)
    memory = ready["memory"]
    assert memory["blocks"] == 3 * 512 // memory["block_size"]
    assert step_server.metrics()["edgellm_cache_blocks"] == memory["blocks"]


def test_the_next_turn_finds_the_conversation_in_the_cache(step_server: Process) -> None:
    first = chat(step_server, "What is a bundle?")
    answer = first.choices[0].message.content
    second = chat(step_server, "What is a bundle?", answer, "Thanks!")
    cached = second.usage.prompt_tokens_details.cached_tokens
    known = first.usage.total_tokens
    assert known - 1 <= cached <= known
    assert step_server.metrics()["edgellm_cached_tokens_total"] >= cached


def test_known_lengths_for_load_tests(step_server: Process) -> None:
    plain = chat(step_server, "What is a bundle?", max_tokens=100)
    assert plain.choices[0].finish_reason == "stop"
    found = chat(step_server, "What is a bundle?", max_tokens=100, extra_body={"ignore_eos": True})
    assert (found.usage.completion_tokens, found.choices[0].finish_reason) == (100, "length")
    assert found.choices[0].message.content.startswith(plain.choices[0].message.content)


def test_all_settings_work_step_by_step(step_server: Process) -> None:
    found = chat(
        step_server,
        "What is a bundle?",
        temperature=0.8,
        seed=3,
        presence_penalty=0.5,
        frequency_penalty=0.5,
        logit_bias={"9": 2},
        logprobs=True,
        top_logprobs=3,
        extra_body={"min_p": 0.05, "top_k": 30, "repetition_penalty": 1.1},
    )
    content = found.choices[0].logprobs.content
    assert len(content) == found.usage.completion_tokens
    assert all(len(entry.top_logprobs) == 3 for entry in content)


def test_the_prefix_cache_can_be_switched_off(demo_int4: Path) -> None:
    with serve(demo_int4, "--no-prefix-cache") as running:
        for _ in range(2):
            found = chat(running, "What is a bundle? " * 6, max_tokens=3)
            assert found.usage.prompt_tokens_details.cached_tokens == 0
        status, errors = running.end(signal.SIGTERM)
        assert (status, errors) == (0, "")

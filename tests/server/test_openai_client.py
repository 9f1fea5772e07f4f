"""The official client, unmodified, against `edgellm serve`."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from tests.server.serving import Process

QUESTION: Any = [{"role": "user", "content": "What is a bundle?"}]


def ask(client: OpenAI, model: str, **settings: Any) -> Any:
    return client.chat.completions.create(
        **({"model": model, "messages": QUESTION, "temperature": 0, "max_tokens": 24} | settings)
    )


@pytest.fixture(scope="module")
def plain(client: OpenAI, server: Process) -> Any:
    """The greedy answer that others are compared with."""
    return ask(client, server.model)


def test_models_are_listed_and_found(client: OpenAI, server: Process) -> None:
    listed = client.models.list().data
    assert [m.id for m in listed] == server.ready["models"]
    assert client.models.retrieve(server.model).id == server.model
    with pytest.raises(openai.NotFoundError, match="does not exist here"):
        client.models.retrieve("gpt-4o")


def test_a_chat_answer_and_its_usage(plain: Any, server: Process) -> None:
    assert plain.object == "chat.completion" and plain.model == server.model
    (choice,) = plain.choices
    assert choice.message.role == "assistant" and choice.message.content
    assert choice.finish_reason in ("stop", "length") and choice.logprobs is None
    usage = plain.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.prompt_tokens > 3 and 0 < usage.completion_tokens <= 24
    assert usage.prompt_tokens_details.cached_tokens == 0


def test_a_streamed_answer_is_the_same(client: OpenAI, server: Process, plain: Any) -> None:
    chunks = list(ask(client, server.model, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == plain.choices[0].message.content
    reasons = [c.choices[0].finish_reason for c in chunks if c.choices]
    assert reasons[-1] == plain.choices[0].finish_reason and set(reasons[:-1]) == {None}
    assert chunks[-1].choices == [] and chunks[-1].usage == plain.usage
    assert all(c.usage is None for c in chunks[:-1])
    assert len({c.id for c in chunks}) == 1


def test_a_stream_without_usage_has_none(client: OpenAI, server: Process) -> None:
    assert all(c.choices and c.usage is None for c in ask(client, server.model, stream=True))


def test_text_parts_and_the_developer_role(client: OpenAI, server: Process, plain: Any) -> None:
    parts = [{"type": "text", "text": "What is "}, {"type": "text", "text": "a bundle?"}]
    same = ask(client, server.model, messages=[{"role": "user", "content": parts}])
    assert same.choices[0].message.content == plain.choices[0].message.content
    system, developer = (
        ask(client, server.model, messages=[{"role": role, "content": "Be brief."}, *QUESTION])
        for role in ("system", "developer")
    )
    assert system.choices[0].message.content == developer.choices[0].message.content


def test_several_answers_are_seeded_apart_and_repeatable(client: OpenAI, server: Process) -> None:
    def texts(**settings: Any) -> list[str]:
        # Hot enough that even a model that is sure of its answers varies them.
        found = ask(client, server.model, temperature=5, max_tokens=16, **settings).choices
        assert [choice.index for choice in found] == list(range(len(found)))
        return [choice.message.content for choice in found]

    three = texts(n=3, seed=11)
    assert three == texts(n=3, seed=11)
    assert len(set(three)) > 1
    assert texts(seed=12) == three[1:2]


def test_several_streamed_answers_equal_those_not_streamed(client: OpenAI, server: Process) -> None:
    settings = {"n": 4, "seed": 5, "temperature": 1.2, "max_tokens": 12}
    whole = [c.message.content for c in ask(client, server.model, **settings).choices]
    pieces = ["", "", "", ""]
    ended = set()
    for chunk in ask(client, server.model, stream=True, **settings):
        for choice in chunk.choices:
            assert choice.index not in ended
            pieces[choice.index] += choice.delta.content or ""
            if choice.finish_reason:
                ended.add(choice.index)
    assert pieces == whole and ended == {0, 1, 2, 3}


def test_stop_texts_end_before_themselves(client: OpenAI, server: Process, plain: Any) -> None:
    text = plain.choices[0].message.content
    stop = text[4:7]
    for form in (stop, ["never in it", stop]):
        (choice,) = ask(client, server.model, stop=form).choices
        assert choice.message.content == text[: text.index(stop)]
        assert choice.finish_reason == "stop"


def test_max_tokens_and_its_newer_name(client: OpenAI, server: Process) -> None:
    for settings in ({"max_tokens": 3}, {"max_tokens": 9, "max_completion_tokens": 3}):
        found = ask(client, server.model, extra_body={"ignore_eos": True}, **settings)
        assert found.choices[0].finish_reason == "length" and found.usage.completion_tokens == 3


def test_extra_fields_of_local_servers(client: OpenAI, server: Process, plain: Any) -> None:
    greedy = ask(client, server.model, temperature=1.0, extra_body={"top_k": 1})
    assert greedy.choices[0].message.content == plain.choices[0].message.content
    long = ask(client, server.model, max_tokens=60, extra_body={"ignore_eos": True})
    assert long.usage.completion_tokens == 60


def test_ignore_eos_goes_on_to_the_length_asked_for(client: OpenAI, server: Process) -> None:
    """As vLLM has it, so that load tests have known lengths. Stop texts still end an answer."""
    plain = ask(client, server.model, max_tokens=150)
    answer = plain.choices[0].message.content
    assert plain.choices[0].finish_reason == "stop", "this answer ends by itself"
    length = plain.usage.completion_tokens + 9
    on: Any = {"max_tokens": length, "extra_body": {"ignore_eos": True}}
    found = ask(client, server.model, **on)
    assert (found.usage.completion_tokens, found.choices[0].finish_reason) == (length, "length")
    assert found.choices[0].message.content.startswith(answer)
    off = ask(client, server.model, max_tokens=length, extra_body={"ignore_eos": False})
    assert off.choices[0].message.content == answer
    *_, last = ask(client, server.model, stream=True, stream_options={"include_usage": True}, **on)
    assert last.usage.completion_tokens == length
    text = client.completions.create(model=server.model, prompt="The", temperature=0, **on)
    assert (text.usage.completion_tokens, text.choices[0].finish_reason) == (length, "length")
    assert ask(client, server.model, stop=[answer.split()[2]], **on).choices[0].finish_reason == "stop"


def test_harmless_fields_are_accepted(client: OpenAI, server: Process, plain: Any) -> None:
    found = ask(
        client,
        server.model,
        user="me",
        store=False,
        metadata={"a": "b"},
        parallel_tool_calls=True,
        service_tier="auto",
        response_format={"type": "text"},
        tool_choice="none",
        extra_body={"never_heard_of": {"x": [1]}},
    )
    assert found.choices[0].message.content == plain.choices[0].message.content


def test_text_completion_in_its_four_forms(client: OpenAI, server: Process) -> None:
    def complete(prompt: Any, **settings: Any) -> Any:
        return client.completions.create(
            model=server.model, prompt=prompt, temperature=0, **({"max_tokens": 8} | settings)
        )

    one = complete("The target for")
    assert one.object == "text_completion" and one.choices[0].text
    two = complete(["The target for", "A bundle"])
    assert two.choices[0].text == one.choices[0].text and two.choices[1].index == 1
    ids = complete([5, 6, 7])
    assert ids.usage.prompt_tokens == 3
    lists = complete([[5, 6, 7], [8, 9]], n=2)
    assert len(lists.choices) == 4 and lists.choices[1].text == ids.choices[0].text
    assert lists.usage.prompt_tokens == 5
    assert complete("A", max_tokens=None, extra_body={"ignore_eos": True}).usage.completion_tokens == 16
    echoed = complete("The target for", echo=True)
    assert echoed.choices[0].text == "The target for" + one.choices[0].text
    stream = complete("The target for", echo=True, stream=True)
    assert "".join(c.choices[0].text for c in stream) == echoed.choices[0].text


def test_the_asynchronous_client(server: Process, plain: Any) -> None:
    async def both() -> tuple[Any, str]:
        async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
            settings: Any = {"model": server.model, "messages": QUESTION, "temperature": 0, "max_tokens": 24}
            whole, stream = await asyncio.gather(
                client.chat.completions.create(**settings),
                client.chat.completions.create(**settings, stream=True),
            )
            return whole, "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    whole, text = asyncio.run(both())
    assert whole.choices[0].message.content == text == plain.choices[0].message.content


def test_a_setting_that_the_backend_cannot_honour_is_refused_by_name(
    client: OpenAI, server: Process, plain: Any
) -> None:
    for settings, name in (
        ({"logit_bias": {"5": -100}}, "logit_bias"),
        ({"extra_body": {"min_p": 0.2}}, "min_p"),
        ({"logprobs": True, "top_logprobs": 2}, "logprobs"),
    ):
        with pytest.raises(openai.BadRequestError, match="ctranslate2 backend") as refused:
            ask(client, server.model, **settings)
        assert refused.value.param == name
    off = ask(client, server.model, logit_bias={}, extra_body={"min_p": 0})
    assert off.choices[0].message.content == plain.choices[0].message.content


def test_log_probabilities_where_the_executor_gives_them(client: OpenAI, server: Process) -> None:
    try:
        found = ask(client, server.model, logprobs=True)
    except openai.BadRequestError as error:
        assert error.param == "logprobs"  # refused by name, as any setting the executor cannot honour
        return
    (choice,) = found.choices
    content = choice.logprobs.content
    assert len(content) == found.usage.completion_tokens
    assert (
        b"".join(bytes(entry.bytes) for entry in content).decode().strip() == choice.message.content.strip()
    )
    assert all(entry.logprob <= 1e-4 and math.isfinite(entry.logprob) for entry in content)


def test_errors_reach_the_clients_own_classes(client: OpenAI, server: Process) -> None:
    with pytest.raises(openai.NotFoundError, match="does not exist here") as missing:
        ask(client, "gpt-4o")
    assert missing.value.code == "model_not_found" and missing.value.param == "model"
    with pytest.raises(openai.BadRequestError, match="temperature") as wrong:
        ask(client, server.model, temperature=1000)
    assert wrong.value.param == "temperature" and wrong.value.type == "invalid_request_error"
    with pytest.raises(openai.BadRequestError) as kind:
        ask(client, server.model, max_tokens="many")
    assert kind.value.param == "max_tokens"
    with pytest.raises(openai.BadRequestError) as nested:
        ask(client, server.model, messages=[{"role": "user", "content": [{"type": "image_url"}]}])
    assert nested.value.param == "messages[0].content" and "image_url" in nested.value.message


def test_a_prompt_that_does_not_fit_names_both_numbers(client: OpenAI, server: Process) -> None:
    context = server.ready["context"]
    with pytest.raises(openai.BadRequestError, match=f"{context}") as long:
        ask(client, server.model, messages=[{"role": "user", "content": "bundle " * (context + 50)}])
    assert long.value.code == "context_length_exceeded" and long.value.param == "messages"
    with pytest.raises(openai.BadRequestError, match=f"{context + 3}.*{context}"):
        client.completions.create(model=server.model, prompt=[5] * (context + 3))


def test_aliases_answer_under_the_name_asked_for(client: OpenAI, server: Process) -> None:
    for name in server.ready["models"]:
        assert ask(client, name, max_tokens=1).model == name

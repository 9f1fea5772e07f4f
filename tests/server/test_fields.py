"""What requests may say: values taken over, refused by name, or harmless."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edgellm.engine import SamplingParams
from edgellm.server.errors import ApiError, from_validation
from edgellm.server.fields import refuse_unsupported
from edgellm.server.schemas import ChatRequest, CompletionRequest

USER: Any = [{"role": "user", "content": "Hi"}]


def chat(**fields: Any) -> ChatRequest:
    return ChatRequest.model_validate({"messages": USER} | fields)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tools", [{"type": "function", "function": {"name": "f"}}]),
        ("tool_choice", "required"),
        ("functions", [{"name": "f"}]),
        ("response_format", {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}),
        ("response_format", {"type": "json_object"}),
        ("modalities", ["text", "audio"]),
        ("audio", {"voice": "alloy", "format": "wav"}),
        ("reasoning_effort", "high"),
        ("best_of", 3),
        ("suffix", "the end"),
        ("guided_json", {}),
        ("grammar", "root ::= x"),
        ("mirostat", 2),
        ("repeat_penalty", 1.1),
        ("use_beam_search", True),
        ("chat_template_kwargs", {"enable_thinking": False}),
        ("truncate_prompt_tokens", 5),
    ],
)
def test_fields_that_would_change_the_answer_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ApiError) as refused:
        refuse_unsupported(chat(**{name: value}).model_extra or {})
    assert refused.value.status == 400 and refused.value.param == name
    assert name in refused.value.message


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [], "tool_choice": "auto"},
        {"tools": [{"type": "function"}], "tool_choice": "none"},
        {"response_format": {"type": "text"}, "modalities": ["text"], "audio": None},
        {"best_of": 1, "suffix": None, "repeat_penalty": 1.0, "mirostat": 0},
        {"user": "x", "store": True, "metadata": {"deep": [[[]]]}, "service_tier": "flex"},
    ],
)
def test_fields_that_cannot_change_the_answer_are_accepted(fields: dict[str, Any]) -> None:
    refuse_unsupported(chat(**fields).model_extra or {})


def test_settings_take_the_names_of_sampling_params() -> None:
    body = chat(
        max_tokens=5,
        stop="x",
        stop_token_ids=[7],
        logit_bias={"3": -100, "4": 1.5},
        top_k=-1,
        seed=-1,
        logprobs=True,
        top_logprobs=2,
        min_p=0.1,
        repetition_penalty=1.2,
        ignore_eos=True,
        min_tokens=2,
        presence_penalty=1,
        frequency_penalty=-1,
        temperature=None,
    )
    params = SamplingParams(**body.settings())
    assert params == SamplingParams(
        max_tokens=5,
        stop=("x",),
        stop_token_ids=(7,),
        logit_bias={3: -100.0, 4: 1.5},
        top_k=0,
        seed=2**63 - 1,
        logprobs=2,
        min_p=0.1,
        repetition_penalty=1.2,
        ignore_eos=True,
        min_tokens=2,
        presence_penalty=1,
        frequency_penalty=-1,
    )


def test_what_is_not_said_is_left_to_the_bundle() -> None:
    assert chat().settings() == {}
    assert chat(temperature=None, stop=None, logprobs=False, seed=None).settings() == {}
    assert CompletionRequest(prompt="a").settings() == {"max_tokens": 16}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": [{"role": "wizard", "content": "Hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "tool", "content": "Hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
        ({"messages": [{"role": "assistant", "content": "a", "tool_calls": [{}]}]}, "messages[0]"),
        ({"temperature": "warm"}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"n": 0}, "n"),
        ({"n": 1000}, "n"),
        ({"stop": [1]}, "stop"),
        ({"logit_bias": {"word": 1}}, "logit_bias"),
        ({"logit_bias": {"1": 10**400}}, "logit_bias"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": True}, "stream_options"),
        ({"top_logprobs": 21}, "top_logprobs"),
    ],
)
def test_wrong_values_name_the_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(ValidationError) as wrong:
        chat(**fields)
    error = from_validation(list(wrong.value.errors()))
    assert error.status == 400 and error.param == param and param in error.message
    assert "\n" not in error.message


@pytest.mark.parametrize("prompt", [None, [], "missing", [[]], [1, "a"], [[1], ["a"]], {"a": 1}, [True]])
def test_prompts_of_other_forms_are_refused(prompt: object) -> None:
    body = {} if prompt == "missing" else {"prompt": prompt}
    with pytest.raises(ValidationError) as wrong:
        CompletionRequest.model_validate(body)
    assert from_validation(list(wrong.value.errors())).param == "prompt"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from([*ChatRequest.model_fields, "tools", "tool_choice", "response_format", "best_of"])


@given(st.dictionaries(names, json_values, max_size=4))
def test_any_json_is_either_understood_or_refused_with_400(fields: dict[str, Any]) -> None:
    try:
        body = ChatRequest.model_validate({"messages": USER} | fields)
        refuse_unsupported(body.model_extra or {})
        assert set(body.settings()) <= set(SamplingParams.__dataclass_fields__)
    except ValidationError as wrong:
        assert from_validation(list(wrong.errors())).status == 400
    except ApiError as refused:
        assert refused.status == 400

"""ChatTemplate: renders what Jinja renders, and stops everything hostile within its limits."""

from __future__ import annotations

import concurrent.futures
import re
import time
from pathlib import Path
from types import MappingProxyType

import pytest
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from edgellm.errors import TemplateError
from edgellm.text import ChatTemplate
from edgellm.text.budget import MAX_SECONDS, MAX_VALUE
from edgellm.text.filters import tojson
from tests.text.hostile import HOSTILE, MALFORMED
from tests.text.templates import TEMPLATES

MESSAGES = [
    {"role": "system", "content": "  Be brief. "},
    {"role": "user", "content": "What is <b>2+2</b>?"},
    {"role": "assistant", "content": "4", "tool_calls": [{"name": "f", "arguments": {"x": [1, 2.5, None]}}]},
    {"role": "user", "content": "Thanks"},
]
TOOLS = [{"name": "f", "parameters": {"type": "object", "ü": "é"}}]


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("prompt", [True, False])
def test_renders_as_plain_jinja(name: str, prompt: bool) -> None:
    plain = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    plain.filters["tojson"] = tojson
    expected = plain.from_string(TEMPLATES[name]).render(
        messages=MESSAGES,
        tools=TOOLS,
        documents=None,
        add_generation_prompt=prompt,
        bos_token="<s>",
        eos_token="</s>",
    )
    template = ChatTemplate(TEMPLATES[name], bos_token="<s>", eos_token="</s>")
    assert template.render(MESSAGES, add_generation_prompt=prompt, tools=TOOLS) == expected
    assert expected.strip()


def test_json_is_not_escaped_for_html() -> None:
    assert ChatTemplate("{{ messages[1].content | tojson }}").render(MESSAGES) == '"What is <b>2+2</b>?"'


def test_generation_marks_are_only_their_body() -> None:
    assert ChatTemplate("a{% generation %}b{{ 1 }}{% endgeneration %}c").render([]) == "ab1c"


def test_methods_of_texts_work_in_loops_and_blocks() -> None:
    source = "{% for m in messages %}{{ m.content.strip().split('?')[0] }}|{% endfor %}"
    assert ChatTemplate(source).render(MESSAGES).startswith("Be brief.|What is <b>2+2</b>|")
    block = (
        "{% block x %}{{ 'a'.upper() }}{% for i in [1] %}{{ '{a}'.format(a=i) }}{% endfor %}{% endblock %}"
    )
    assert ChatTemplate(block).render(MESSAGES) == "A1"


def test_the_date_can_be_asked_for() -> None:
    template = ChatTemplate("{{ strftime_now('%Y') }}")
    assert template.render([]) == time.strftime("%Y")
    assert template.render([], strftime=lambda pattern: f"<{pattern}>") == "<%Y>"


def test_a_refusal_carries_the_template_s_own_words() -> None:
    template = ChatTemplate("{{ raise_exception('Roles must alternate') }}")
    with pytest.raises(TemplateError, match="Roles must alternate"):
        template.render(MESSAGES)


def peak_bytes() -> int:
    """The most memory this process has used, where the system says so."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    return int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text())[1]) << 10  # type: ignore[index]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_is_stopped(name: str) -> None:
    start = time.thread_time()
    peak = peak_bytes()
    with pytest.raises(TemplateError) as caught:
        ChatTemplate(HOSTILE[name]).render(MESSAGES)
    assert peak_bytes() - peak < 300 << 20
    assert time.thread_time() - start < MAX_SECONDS + 1.5
    assert len(str(caught.value)) < 700 and "Traceback" not in str(caught.value)


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_template_is_a_clear_error(name: str) -> None:
    with pytest.raises(TemplateError, match="chat template"):
        ChatTemplate(MALFORMED[name]).render(MESSAGES)


@pytest.mark.parametrize(
    "source",
    [
        "{{ raise_exception.__globals__ }}",
        "{{ self._TemplateReference__context }}",
        "{{ ''['__class__'] }}",
        "{{ ''|attr('__class__') }}",
        "{% for x in [1] %}{{ loop._iterable }}{% endfor %}",
        "{{ environment }}{{ count_turn }}{{ lipsum }}",
        "{{ '{a.b}'.format_map({'a': 1}) }}",
        "{{ messages.append(1) if messages.append is defined and false }}",
        "{{ dict.mro }}{{ namespace.__init__ }}",
    ],
)
def test_inner_things_are_not_there(source: str) -> None:
    assert ChatTemplate(source).render(MESSAGES) == ""


def test_messages_are_not_changed_and_carry_no_methods() -> None:
    class Text(str):
        def leak(self) -> str:
            return "leaked"

    messages = (MappingProxyType({"role": "user", "content": Text("hi")}),)
    assert ChatTemplate("{{ messages[0].content }}{{ messages[0].content.leak }}").render(messages) == "hi"
    with pytest.raises(TemplateError, match="hold a object"):
        ChatTemplate("").render([{"role": "user", "content": object()}])


def test_messages_larger_than_any_context_are_refused() -> None:
    with pytest.raises(TemplateError, match="larger than"):
        ChatTemplate("x").render([{"role": "user", "content": "a" * (MAX_VALUE + 1)}])


def test_a_long_conversation_costs_little() -> None:
    template = ChatTemplate(TEMPLATES["chatml"])
    messages = [{"role": "user", "content": "word " * 100}] * 1000
    template.render(messages)
    start = time.thread_time()
    assert len(template.render(messages)) > 500_000
    assert time.thread_time() - start < 1


def test_threads_share_a_template_with_separate_budgets() -> None:
    good, bad = ChatTemplate(TEMPLATES["chatml"]), ChatTemplate(HOSTILE["doubled text"])

    def one(i: int) -> str:
        if i % 4 == 0:
            with pytest.raises(TemplateError):
                bad.render([])
        return good.render([{"role": "user", "content": str(i)}])

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(one, range(64)))
    assert all(f"\n{i}<" in text for i, text in enumerate(texts))

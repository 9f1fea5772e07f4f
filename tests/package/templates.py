"""Chat templates in the formats of the supported families, written anew, with the models' special tokens."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Known:
    """A template, the tokens it may use, and whether it takes a system message."""

    source: str
    bos: str = "<s>"
    eos: str = "</s>"
    system: bool = True


_CHATML = r"""
{%- if messages[0].role != 'system' and DEFAULT %}
    {{- '<|im_start|>system\n' ~ DEFAULT ~ '<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|im_start|>' ~ message.role ~ '\n' ~ message.content ~ '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{% endif %}"""

# Thoughts of earlier answers are left out; an answer after the last question keeps them.
_QWEN3 = r"""
{%- macro answer(text, latest) -%}
    {%- set thoughts, said = '', text %}
    {%- if '</think>' in text %}
        {%- set thoughts = text.split('</think>')[0].split('<think>')[-1].strip('\n') %}
        {%- set said = text.split('</think>')[-1].lstrip('\n') %}
    {%- endif %}
    {{- '<|im_start|>assistant\n' }}
    {%- if latest %}{{- '<think>\n' ~ thoughts ~ '\n</think>\n\n' }}{% endif %}
    {{- said ~ '<|im_end|>\n' }}
{%- endmacro %}
{%- set last = namespace(question=-1) %}
{%- for message in messages %}
    {%- if message.role == 'user' and not (message.content.startswith('<tool_response>')
                                           and message.content.endswith('</tool_response>')) %}
        {%- set last.question = loop.index0 %}
    {%- endif %}
{%- endfor %}
{%- if tools %}{{- raise_exception('no tools here') }}{% endif %}
{%- for message in messages %}
    {%- if message.role == 'assistant' %}
        {{- answer(message.content, loop.index0 > last.question) }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and not enable_thinking %}{{- '<think>\n\n</think>\n\n' }}{% endif %}
{%- endif %}"""

_LLAMA3 = r"""
{{- bos_token }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}
    {{- message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"""

# The system block is always there, with dates.
_LLAMA32 = r"""
{{- bos_token }}
{%- set today = strftime_now('%d %b %Y') if strftime_now is defined else '26 Jul 2024' %}
{%- if messages[0].role == 'system' %}
    {%- set text, turns = messages[0].content | trim, messages[1:] %}
{%- else %}
    {%- set text, turns = '', messages %}
{%- endif %}
{{- '<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: ' }}
{{- today + '\n\n' + text + '<|eot_id|>' }}
{%- for one in turns %}
    {{- '<|start_header_id|>' + one.role + '<|end_header_id|>\n\n' + one.content | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"""

_LLAMA2 = r"""
{%- set system = messages[0].content if messages[0].role == 'system' else none %}
{%- for one in (messages if system is none else messages[1:]) %}
    {%- if (one.role == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('roles must alternate') }}
    {%- endif %}
    {%- if one.role == 'user' %}
        {%- set text = one.content %}
        {%- if loop.first and system is not none %}
            {%- set text = '<<SYS>>\n' + system + '\n<</SYS>>\n\n' + text %}
        {%- endif %}
        {{- bos_token + '[INST] ' + text.strip() + ' [/INST]' }}
    {%- else %}
        {{- ' ' + one.content.strip() + ' ' + eos_token }}
    {%- endif %}
{%- endfor %}"""

_MISTRAL = r"""
{{- bos_token }}
{%- for message in messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('After the optional system message, user and assistant must take turns') }}
    {%- endif %}
    {%- if message['role'] == 'user' %}
        {{- ' [INST] ' + message['content'] + ' [/INST]' }}
    {%- else %}
        {{- ' ' + message['content'] + eos_token }}
    {%- endif %}
{%- endfor %}"""

# The system message stands before the last question.
_MISTRAL3 = r"""
{%- if messages[0].role == 'system' %}
    {%- set system, turns = messages[0].content, messages[1:] %}
{%- else %}
    {%- set turns = messages %}
{%- endif %}
{{- bos_token }}
{%- for one in turns %}
    {%- if one.role == 'user' %}
        {%- if loop.last and system is defined %}
            {{- '[INST] ' + system + '\n\n' + one.content + '[/INST]' }}
        {%- else %}
            {{- '[INST] ' + one.content + '[/INST]' }}
        {%- endif %}
    {%- elif one.role == 'assistant' %}
        {{- ' ' + one.content | trim + eos_token }}
    {%- else %}
        {{- raise_exception('only user and assistant may follow a system message') }}
    {%- endif %}
{%- endfor %}"""

_GEMMA = r"""
{{- bos_token }}
{%- set head, turns = '', messages %}
{%- if messages[0].role == 'system' %}
    REFUSE
    {%- set head, turns = messages[0].content + '\n\n', messages[1:] %}
{%- endif %}
{%- for one in turns %}
    {%- if (one.role == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('roles must alternate') }}
    {%- endif %}
    {{- '<start_of_turn>' + ('model' if one.role == 'assistant' else one.role) + '\n' }}
    {{- head if loop.first else '' }}
    {{- one.content | trim + '<end_of_turn>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<start_of_turn>model\n' }}{% endif %}"""

_PHI3 = r"""
{%- for m in messages %}
    {%- if m.role == 'system' and m.content %}
        {{- '<|system|>\n' + m.content + '<|end|>\n' }}
    {%- elif m.role == 'user' %}
        {{- '<|user|>\n' + m.content + '<|end|>\n' }}
    {%- elif m.role == 'assistant' %}
        {{- '<|assistant|>\n' + m.content + '<|end|>\n' }}
    {%- endif %}
{%- endfor %}
{{- '<|assistant|>\n' if add_generation_prompt else eos_token }}"""

_PHI4 = r"""
{%- for m in messages %}{{ '<|' + m.role + '|>' + m.content + '<|end|>' }}{% endfor %}
{{- '<|assistant|>' if add_generation_prompt else eos_token }}"""

KNOWN = {
    "chatml": Known(_CHATML.replace("DEFAULT", "''"), "", "<|im_end|>"),
    "qwen-2": Known(_CHATML.replace("DEFAULT", "'You are a helpful assistant.'"), "", "<|im_end|>"),
    "qwen-3": Known(_QWEN3, "", "<|im_end|>"),
    "llama-3": Known(_LLAMA3, "<|begin_of_text|>", "<|eot_id|>"),
    "llama-3.2": Known(_LLAMA32, "<|begin_of_text|>", "<|eot_id|>"),
    "llama-2": Known(_LLAMA2),
    "mistral": Known(_MISTRAL, system=False),
    "mistral, 3": Known(_MISTRAL3),
    "gemma-2": Known(
        _GEMMA.replace("REFUSE", "{{- raise_exception('no system') }}"), "<bos>", "<eos>", False
    ),
    "gemma-3": Known(_GEMMA.replace("REFUSE", ""), "<bos>", "<eos>"),
    "phi-3": Known(_PHI3, eos="<|end|>"),
    "phi-4": Known(_PHI4, "<|endoftext|>", "<|end|>"),
}

_EACH = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"

NOT_LINEAR = {
    "numbers the turns": _EACH.replace("{{ m.role", "[{{ loop.index }}] {{ m.role"),
    "leaves old turns out": _EACH.replace("messages", "messages[-3:]"),
    "tells how many there are": "{{ messages | length }}" + _EACH,
    "shouts": _EACH.replace("m.content", "m.content | upper"),
    "writes JSON": _EACH.replace("m.content", "m.content | tojson"),
    "looks into texts": _EACH.replace("{{ m.role", "{{ '!' if '?' in m.content }}{{ m.role"),
    "takes a letter away": _EACH.replace("m.content", "m.content.rstrip('.').strip('-')"),
    "puts the last first": _EACH.replace("messages", "messages | reverse"),
    "writes an unusual date": "{{ strftime_now('%-d') }}" + _EACH,
    "computes with dates": "{{ strftime_now('%d') | int + 1 }}" + _EACH,
}

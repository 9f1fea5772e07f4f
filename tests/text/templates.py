"""Templates in the manner of real ones, each of which plain Jinja renders too."""

from __future__ import annotations

TEMPLATES = {
    "chatml": r"""
{%- for m in messages %}
    {{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}""",
    "system first": r"""
{% if messages[0]['role'] == 'system' %}
{% set first = messages[0]['content'] | trim %}{% set rest = messages[1:] %}
{% else %}{% set rest = messages %}{% endif %}
{% for m in rest %}[{{ loop.index0 }}/{{ loop.length }}]
{% if loop.first and first is defined %}<<{{ first }}>>{% endif %}
{{ m['content'] }}{{ eos_token if m['role'] == 'assistant' }}{% endfor %}""",
    "namespace": r"""
{% set ns = namespace(found=false, text='') %}
{% for m in messages %}{% if not ns.found and m.role == 'user' %}
{% set ns.found = true %}{% set ns.text = m.content %}{% endif %}{% endfor %}
{{ ns.text ~ '|' ~ ns.found }}""",
    "macro": r"""
{%- macro show(m, deep=false) -%}
{{ m.role | upper }}: {{ m.content | default('', true) }}{% if deep %}{{ m.tool_calls | tojson }}{% endif %}
{%- endmacro %}
{% for m in messages %}{{ show(m, deep=m.tool_calls is defined) }};{% endfor %}""",
    "tools": r"""
{% if tools is not none %}{{ tools | tojson(indent=4) }}{{ tools | length }}{% endif %}
{% for t in tools %}{% for k, v in t.items() %}{{ k }}={{ v }} {% endfor %}{% endfor %}""",
    "reverse": r"""
{% for m in messages[::-1] %}{% if m.role == 'assistant' %}{% break %}{% endif %}{{ m.content }}{% endfor %}
{{ (messages | last).content }}{{ messages[-2].role }}""",
    "filters": r"""
{{ messages | map(attribute='role') | join(', ') }}
{{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ 'a-b'.split('-') | first }}
{{ '%s:%03d' | format('n', 7) }} {{ '%s %s' % ('a', [1]) }} {{ '{} {a}'.format(1, a=2) }} {{ 'x' * 3 }}
{{ 'q' in 'quad' }} {{ [1, 2, 3] | sum }}
{{ {'b': 1, 'a': 2} | dictsort }} {{ 'one\ntwo' | indent(2) }}
{{ 7 // 2 }} {{ 2 ** 10 }} {{ 7 % 4 }} {{ 1.5 | round | int }} {{ 'abc'[::-1] }} {{ [1] + [2] }}
{{ 'T'.lower().startswith('t') }} {{ 'aXbX'.replace('X', '-', 1) }} {{ ', '.join(['a', 'b']) }}
{{ 'aXbX' | replace('X', '-') }} {{ messages[0].content | length }} {{ 'a' if 3 in [1, 3] else 'b' }}""",
    "blocks": r"""
{% set body %}{% for i in range(4) %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% endfor %}{% endset %}
<{{ body }}>{% filter upper %}loud{% endfilter %}
{% macro wrap() %}({{ caller('c') }}){% endmacro %}{% call(x) wrap() %}{{ x }}{% endcall %}
{% for g in [[1, [2]], [3]] recursive %}{{ loop(g) if g is sequence else g }}{% endfor %}
{% set j = joiner(', ') %}{% for i in (1, 2) %}{{ j() }}{{ i }}{% endfor %}""",
    "whitespace": "  {% if true %}\n  kept\n  {%- endif %}\n{# gone #}\n{% if no %}x{% endif %}\n  end\n",
}

"""docs/server.md says what the code does. `python -m tests.server.test_docs` rewrites its tables."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from edgellm.cli.serve import serve
from edgellm.server.fields import _REFUSED
from edgellm.server.schemas import ChatRequest, CompletionRequest
from tests.server.serving import Process

DOC = Path(__file__).resolve().parents[2] / "docs" / "server.md"


def options_table() -> str:
    """The options of `edgellm serve`, from the command itself."""
    rows = ["| option | variable | default | |", "|---|---|---|---|"]
    for option in serve.params:
        if not isinstance(option, click.Option) or option.is_eager:
            continue
        assert isinstance(option.envvar, str) and option.help
        text, _, said = option.help.partition("  [default: ")
        has_one = isinstance(option.default, (str, int, float)) and not option.is_flag
        default = said.rstrip("]") or (f"`{option.default}`" if has_one else "")
        value = "" if option.is_flag else " " + (option.metavar or option.type.name.upper().split()[0])
        rows.append(f"| `{option.opts[0]}{value}` | `{option.envvar}` | {default} | {text} |")
    return "\n".join(rows)


def refused_table() -> str:
    """The fields that are refused, by reason."""
    reasons: dict[str, list[str]] = {"tool calls are not supported": ["tools", "tool_choice"]}
    for name, (_, why) in _REFUSED.items():
        reasons.setdefault(why, []).append(name)
    rows = ["| field | why |", "|---|---|"]
    rows += [f"| {', '.join(f'`{n}`' for n in names)} | {why} |" for why, names in reasons.items()]
    return "\n".join(rows)


TABLES = {"options": options_table, "refused": refused_table}


def rewritten(text: str) -> str:
    """`text` with every generated table as it should be."""
    for name, table in TABLES.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        content = table()
        text, count = re.subn(pattern, lambda m, c=content: f"{m[1]}{c}\n{m[2]}", text, flags=re.DOTALL)
        assert count == 1, f"docs/server.md has no place for the table {name}"
    return text


def test_tables_are_in_step() -> None:
    assert rewritten(DOC.read_text()) == DOC.read_text(), "run python -m tests.server.test_docs"


def test_every_field_and_metric_is_explained(server: Process) -> None:
    text = DOC.read_text()
    for name in {*ChatRequest.model_fields, *CompletionRequest.model_fields}:
        assert f"`{name}`" in text, name
    server.call("GET", "/v1/models")  # so that the metrics that count requests have something to show
    samples = {re.sub(r"\{.*", "", name) for name in server.metrics()}
    samples = {name for name in samples if not name.endswith("_created")}  # the client's own, one a metric
    assert "edgellm_requests_total" in samples
    for name in {re.sub(r"(_bucket|_sum|_count)$", "", name) for name in samples}:
        if name.startswith("edgellm_"):
            assert f"`{name}`" in text, name


def test_every_option_can_be_set_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    options = [o for o in serve.params if isinstance(o, click.Option) and not o.is_eager]
    assert len({o.envvar for o in options}) == len(options)
    monkeypatch.setenv("EDGELLM_CORS_ORIGIN", "https://a.example https://b.example")
    monkeypatch.setenv("EDGELLM_PORT", "0")
    context = serve.make_context("serve", ["some-bundle"])
    assert context.params["cors_origin"] == ("https://a.example", "https://b.example")
    assert context.params["port"] == 0


if __name__ == "__main__":
    DOC.write_text(rewritten(DOC.read_text()))

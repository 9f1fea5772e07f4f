"""Finding a checkpoint's chat template, and trying it before anything is built on it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgellm.bundle.manifest import TokenizerFacts
from edgellm.checkpoint.jsonfile import read_json, read_text
from edgellm.errors import CheckpointError, TemplateError
from edgellm.text.template import MAX_TEMPLATE_CHARS, ChatTemplate

_SAMPLE = [{"role": "user", "content": "Hello"}]


def read_chat_template(
    directory: Path, tokenizer_config: Mapping[str, Any], facts: TokenizerFacts
) -> str | None:
    """The Jinja source, None if the checkpoint has none (a base model).

    Looked for in `chat_template.jinja`, then `tokenizer_config.json` (a text, or named ones of which
    `default` counts), then `chat_template.json`. It must render one user message.

    Raises:
        CheckpointError: it is not a text. TemplateError: it is malformed, hostile, or fails.
    """
    file = directory / "chat_template.jinja"
    source: Any = None
    if file.is_file():
        source = read_text(file, limit=4 * MAX_TEMPLATE_CHARS)
    elif tokenizer_config.get("chat_template") is not None:
        file = directory / "tokenizer_config.json"
        source = _default(tokenizer_config["chat_template"])
    elif (directory / "chat_template.json").is_file():
        file = directory / "chat_template.json"
        source = read_json(file).get("chat_template")
    if source is None:
        return None
    if not isinstance(source, str):
        raise CheckpointError(f"{file}: chat_template is not a text")
    try:
        template = ChatTemplate(
            source, bos_token=facts.bos_token, eos_token=facts.eos_token, unk_token=facts.unk_token
        )
        template.render(_SAMPLE)
    except TemplateError as error:
        raise TemplateError(f"{file}: {error}") from None
    return source


def _default(value: Any) -> Any:
    """The template called `default` among named ones, or the only one."""
    if not isinstance(value, list):
        return value
    named = {item.get("name"): item.get("template") for item in value if isinstance(item, dict)}
    return named.get("default") or (next(iter(named.values())) if len(named) == 1 else None)

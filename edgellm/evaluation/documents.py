"""The text to evaluate on: files into documents, documents into token ids."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgellm.backends.executor import Int32s
from edgellm.bundle import Bundle
from edgellm.errors import EdgeLLMError, UsageError
from edgellm.text.tokenizer import Tokenizer

MAX_FILE_BYTES = 64 << 20
MAX_DOCUMENT_BYTES = 16 << 20
"""A tokenizer needs about 25 bytes of memory for each byte of a text that it splits."""
_LINES = (".jsonl", ".ndjson")

Messages = list[dict[str, Any]]


@dataclass(frozen=True)
class Text:
    """One document as it stands in the file: a text, or the messages of a conversation.

    Attributes:
        where: the file, and the line in it, for messages of errors.
    """

    content: str | Messages
    where: str


@dataclass(frozen=True)
class Document:
    """One document as the model sees it.

    Attributes:
        token_ids: int32[n], without the prefix that every window gets.
        prefix: what the tokenizer puts before a text, usually the bos token or nothing.
        bytes: UTF-8 bytes of the tokens that are scored.
    """

    token_ids: Int32s
    prefix: tuple[int, ...]
    bytes: int

    @property
    def scored(self) -> int:
        """Tokens that have something before them to be predicted from."""
        return max(0, len(self.token_ids) - (not self.prefix))


def read_texts(path: Path) -> list[Text]:
    """The documents of a file in UTF-8: each line of a `.jsonl` file is one, any other file is a single one.

    Raises:
        UsageError: the file cannot be read, is too large, is not UTF-8, or a line is not as it must be.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None
    if len(data) > MAX_FILE_BYTES:
        raise UsageError(f"{path} is larger than {MAX_FILE_BYTES >> 20} MiB; evaluate on a part of it")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 (byte {error.start}); convert it first") from None
    if path.suffix.lower() not in _LINES:
        return [_checked(Text(text, str(path)))]
    lines = enumerate(text.split("\n"), start=1)
    return [_checked(_parse(line, f"{path}, line {number}")) for number, line in lines if line.strip()]


def _parse(line: str, where: str) -> Text:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: not JSON ({error})") from None
    if not isinstance(value, dict) or ("text" in value) == ("messages" in value):
        raise UsageError(f'{where}: must be a JSON object with either "text" or "messages"')
    messages = value.get("messages")
    if "text" in value:
        if not isinstance(value["text"], str):
            raise UsageError(f'{where}: "text" must be a string')
        return Text(value["text"], where)
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise UsageError(f'{where}: "messages" must be a list of objects with "role" and "content"')
    return Text(messages, where)


def _checked(text: Text) -> Text:
    content = text.content
    if isinstance(content, str) and len(content) > MAX_DOCUMENT_BYTES // 4:
        size = len(content.encode(errors="surrogatepass"))
        if size > MAX_DOCUMENT_BYTES:
            raise UsageError(
                f"{text.where}: a document of {size:,} bytes is beyond the limit of "
                f"{MAX_DOCUMENT_BYTES >> 20} MiB; split it into the lines of a .jsonl file"
            )
    return text


def encode(bundle: Bundle, texts: Sequence[Text], max_tokens: int | None = None) -> list[Document]:
    """The documents in the bundle's tokens; those with nothing to score are left out.

    Args:
        max_tokens: the documents end where this many tokens are scored.

    Raises:
        UsageError: nothing is left to score, or messages need a chat template and the bundle has none.
        EdgeLLMError: a text cannot be tokenized, or messages do not suit the template.
    """
    tokenizer, template = bundle.tokenizer(), bundle.chat_template()
    left = max_tokens
    documents = []
    for text in texts:
        if left is not None and left <= 0:
            break
        content = text.content
        try:
            if not isinstance(content, str):
                if template is None:
                    raise UsageError('"messages" need a chat template and the bundle has none; give "text"')
                content = template.render(content, add_generation_prompt=False)
            document = _document(tokenizer, content, left)
        except EdgeLLMError as error:
            raise type(error)(f"{text.where}: {error}") from None
        if document.scored:
            documents.append(document)
            left = left - document.scored if left is not None else None
    if not documents:
        where = texts[0].where if len(texts) == 1 else "the text"
        raise UsageError(
            f"{where} has no token to predict: it takes a token, and one before it to predict it from"
        )
    return documents


def _document(tokenizer: Tokenizer, text: str, limit: int | None) -> Document:
    """One text. A prefix that the text itself begins with (chat templates write it) is not doubled."""
    ids = tokenizer.encode(text, add_special_tokens=False)
    prefix = tokenizer.facts.prefix_ids
    unscored = ids[: len(prefix)] if prefix and tuple(ids[: len(prefix)]) == prefix else []
    kept = ids[len(unscored) :]
    if not prefix:
        unscored = kept[:1]
    end = len(kept) if limit is None else min(len(kept), limit + (not prefix))
    # Taken from the text's own size: tokens may stand for more than they look, or for an unknown character.
    left_out = sum(len(tokenizer.token_bytes(id)) for id in (*unscored, *kept[end:]))
    size = max(1, len(text.encode()) - left_out)
    return Document(np.array(kept[:end], np.int32), prefix, size)

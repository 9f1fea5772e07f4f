"""The vocabulary that CTranslate2 keeps beside a model: one distinct string for each row of the embeddings.

Requests reach CTranslate2 as these strings, so two ids must never share one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from edgellm.errors import BundleError

VOCABULARY = "vocabulary.json"


def distinct_tokens(vocab: Mapping[str, int], size: int) -> list[str]:
    """Token of each id below `size`: as the tokenizer spells it, or `<extra_id_…>` for ids it does not use.

    Args:
        vocab: the tokenizer's tokens with their ids, added tokens included; ids from `size` on are left out.
    """
    tokens: list[str | None] = [None] * size
    for token, id in sorted(vocab.items(), key=lambda item: (item[1], item[0])):
        if 0 <= id < size and tokens[id] is None:
            tokens[id] = token
    taken = {token for token in tokens if token is not None}

    def unused(id: int) -> str:
        name = f"<extra_id_{id}>"
        while name in taken:
            name += "_"
        taken.add(name)
        return name

    return [unused(id) if token is None else token for id, token in enumerate(tokens)]


def read_tokens(directory: Path) -> list[str]:
    """Token of each id, as written by the build; BundleError if the file is damaged."""
    path = directory / VOCABULARY
    try:
        tokens = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} cannot be read: {error}; build the bundle again") from None
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise BundleError(f"{path} is not a list of tokens; build the bundle again")
    return tokens

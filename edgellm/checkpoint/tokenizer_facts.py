"""`TokenizerFacts` of a checkpoint, from tokenizer.json, tokenizer_config.json and generation_config.json.

tokenizer.json alone decides how a text is tokenized, and its post-processor what surrounds the text by
default. `add_bos_token` and `add_eos_token` of tokenizer_config.json do not count: transformers 5 drops them
where there is a tokenizer.json, and transformers 4 wrote them into the post-processor of every file it saved.
(Where tokenizer_config.json names LlamaTokenizer or GemmaTokenizer, transformers 5 rebuilds normalizer and
pre-tokenizer by that class instead of reading the file; texts with leading spaces can come out differently.)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers

from edgellm.bundle.manifest import TokenizerFacts
from edgellm.bundle.model_config import ModelConfig
from edgellm.errors import CheckpointError, EdgeLLMError
from edgellm.text.tokenizer import load_tokenizer


def read_tokenizer_facts(
    file: Path,
    tokenizer_config: Mapping[str, Any],
    config: ModelConfig,
    raw_config: Mapping[str, Any],
    generation: Mapping[str, Any],
    unused_tokens: tuple[str, ...] = (),
) -> TokenizerFacts:
    """Facts of tokenizer.json `file`.

    Args:
        unused_tokens: tokens that may lie beyond the model's vocabulary.

    Raises:
        CheckpointError: the file is damaged, or has tokens beyond the model's vocabulary.
    """
    try:
        tokenizer = load_tokenizer(file)
    except EdgeLLMError as error:
        raise CheckpointError(str(error)) from None
    vocab = tokenizer.get_vocab(with_added_tokens=True)
    size = max(vocab.values(), default=-1) + 1
    if size == 0:
        raise CheckpointError(f"{file} has no tokens; download it again")
    if beyond := [t for t, i in vocab.items() if i >= config.vocab_size and t not in unused_tokens]:
        raise CheckpointError(
            f"{file} has {len(beyond):,} tokens beyond the model's vocab_size of {config.vocab_size:,} "
            f"(such as {min(beyond, key=vocab.__getitem__)!r}): it belongs to another model"
        )
    bos = special_token(tokenizer_config, "bos_token")
    eos = special_token(tokenizer_config, "eos_token")
    pad = special_token(tokenizer_config, "pad_token")
    prefix, suffix = _surroundings(tokenizer, file)
    return TokenizerFacts(
        size=size,
        eos_ids=_eos_ids(vocab.get(eos), raw_config, generation, config.vocab_size),
        bos_id=vocab.get(bos),
        pad_id=vocab.get(pad),
        bos_token=bos,
        eos_token=eos,
        unk_token=special_token(tokenizer_config, "unk_token"),
        prefix_ids=prefix,
        suffix_ids=suffix,
    )


def special_token(tokenizer_config: Mapping[str, Any], key: str) -> str:
    """A special token's text: a string, or an object with `content`; empty if there is none."""
    value = tokenizer_config.get(key)
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else ""


def _surroundings(tokenizer: tokenizers.Tokenizer, file: Path) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Ids that the post-processor puts before and after a text."""
    try:
        bare = tokenizer.encode("a", add_special_tokens=False).ids
        whole = tokenizer.encode("a", add_special_tokens=True).ids
    except Exception as error:  # the library raises bare Exception
        raise CheckpointError(f"{file} cannot tokenize a text: {error}") from None
    for start in range(len(whole) - len(bare) + 1):
        if whole[start : start + len(bare)] == bare and bare:
            return tuple(whole[:start]), tuple(whole[start + len(bare) :])
    if not bare:
        raise CheckpointError(f"{file} tokenizes the text 'a' to nothing; it is damaged")
    raise CheckpointError(
        f"{file} has a post-processor that changes the text's own tokens, which is not implemented"
    )


def _eos_ids(
    own: int | None, raw_config: Mapping[str, Any], generation: Mapping[str, Any], vocab_size: int
) -> tuple[int, ...]:
    """End tokens that any of the files names, in ascending order."""
    text_config = raw_config.get("text_config")
    sources = [
        ("tokenizer_config.json", own),
        ("config.json", raw_config.get("eos_token_id")),
        ("config.json", text_config.get("eos_token_id") if isinstance(text_config, dict) else None),
        ("generation_config.json", generation.get("eos_token_id")),
    ]
    found: set[int] = set()
    for file, value in sources:
        for item in value if isinstance(value, list) else [] if value is None else [value]:
            if type(item) is not int or not 0 <= item < vocab_size:
                raise CheckpointError(
                    f"{file}: eos_token_id {item!r} is no token id of a vocabulary of {vocab_size:,}"
                )
            found.add(item)
    return tuple(sorted(found))

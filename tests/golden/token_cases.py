"""Tokenizers and texts whose tokens are recorded from transformers and compared in tests/text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from tests.make_checkpoints import make_checkpoint
from tests.make_tokenizers import byte_level, metaspace

FILE = Path(__file__).parent / "tokens.json"
TEXTS = [
    "",
    "hello world",
    " the  bundle ",
    "<s>what is</s>",
    "héllo 😀 ñ",
    "a\nb\tc",
    "<|turn|>user\nhello<|end|>",
    "12345 the and",
]
_PLAIN = {"tokenizer_class": "PreTrainedTokenizerFast"}

# Name -> tokenizer, what is added to tokenizer_config.json, family of the checkpoint.
TOKEN_CASES: dict[str, tuple[Tokenizer, dict[str, Any], str]] = {
    "byte-level": (byte_level(), _PLAIN, "llama"),
    "byte-level, bos and eos": (byte_level(bos=True, eos=True), _PLAIN, "llama"),
    "byte-level, bos from the flag": (byte_level(), _PLAIN | {"add_bos_token": True}, "llama"),
    "byte-level, qwen": (
        byte_level(),
        {"tokenizer_class": "Qwen2Tokenizer", "add_bos_token": False},
        "qwen2",
    ),
    "metaspace": (metaspace(bos=False), _PLAIN, "llama"),
    "metaspace, bos": (metaspace(), {"tokenizer_class": "TokenizersBackend"}, "llama"),
    "metaspace, bos against the flag": (metaspace(), _PLAIN | {"add_bos_token": False}, "llama"),
    "metaspace, bos and eos": (metaspace(eos=True), _PLAIN, "phi3"),
}


def write_case(name: str, directory: Path) -> Path:
    """A checkpoint with the tokenizer of that case."""
    tokenizer, settings, family = TOKEN_CASES[name]
    make_checkpoint(directory, family)
    tokenizer.save(str(directory / "tokenizer.json"))
    path = directory / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings), encoding="utf-8")
    return directory

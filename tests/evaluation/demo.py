"""The demo model's own modules (held-out texts, numpy reference), and its bundles."""

from __future__ import annotations

import importlib
import json
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

DEMO = Path(__file__).parents[2] / "models" / "demo"


def module(name: str) -> ModuleType:
    """A script of models/demo."""
    sys.path.insert(0, str(DEMO))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(DEMO))


@cache
def reference_model() -> object:
    return module("reference").Reference(DEMO)


def write_texts(path: Path, texts: list[str]) -> Path:
    """A .jsonl file with these documents."""
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def tokens(text: str) -> list[int]:
    """Ids of a text, with the bos token in front of it once."""
    ids = Tokenizer.from_file(str(DEMO / "tokenizer.json")).encode(text, add_special_tokens=False).ids
    return ids if ids[:1] == [0] else [0, *ids]


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    return wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True))

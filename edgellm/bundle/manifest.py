"""`edgellm.json`, the manifest of a bundle: its types, which are also its schema (docs/bundle.md).

Reading and writing the file, with its checksum, is in `edgellm.bundle.codec`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from edgellm.bundle.model_config import ModelConfig

MANIFEST_NAME = "edgellm.json"
TOKENIZER_NAME = "tokenizer.json"
TEMPLATE_NAME = "chat_template.jinja"
FORMAT_VERSION = 1
MAX_MANIFEST_BYTES = 16 << 20
MAX_FILES = 10_000
ZERO_SHA256 = "0" * 64

BatchingMode = Literal["step", "request"]
Count = Annotated[int, msgspec.Meta(ge=0)]
TokenId = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
Name = Annotated[str, msgspec.Meta(pattern="^[a-z0-9][a-z0-9._-]*$", max_length=64)]
RelativePath = Annotated[
    str,
    msgspec.Meta(
        pattern="^[A-Za-z0-9_][A-Za-z0-9._+-]*(/[A-Za-z0-9_][A-Za-z0-9._+-]*)*$",
        max_length=256,
        description="Forward slashes, ASCII; no part starts with a dot. edgellm.bundle.paths has the rest.",
    ),
]


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of the bundle. `path` is relative, with forward slashes; `sha256` is lower-case hex."""

    path: RelativePath
    bytes: Count
    sha256: Sha256


class TokenizerFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the engine must know about `tokenizer.json` beyond the file itself."""

    size: Count
    """Highest token id of the tokenizer, plus one (the model's vocabulary may be padded beyond it)."""
    eos_ids: tuple[TokenId, ...]
    """Generation ends at any of these (generation_config.json, config.json and the tokenizer, united)."""
    bos_id: TokenId | None = None
    pad_id: TokenId | None = None
    bos_token: str = ""
    eos_token: str = ""
    unk_token: str = ""
    prefix_ids: tuple[TokenId, ...] = ()
    """What the checkpoint's own tokenizer puts before a text by default (usually the bos token)."""
    suffix_ids: tuple[TokenId, ...] = ()
    """What it puts after a text by default (usually nothing)."""


class SamplingDefaults(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Defaults from `generation_config.json`; a request that says otherwise wins."""

    temperature: Annotated[float, msgspec.Meta(ge=0, le=100)] = 1.0
    top_k: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] = 0
    top_p: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    min_p: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    repetition_penalty: Annotated[float, msgspec.Meta(gt=0, le=10)] = 1.0


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the weights came from. Never a path of the building machine."""

    name: str
    """Hugging Face id, or the name of the checkpoint's directory."""
    revision: str | None = None
    license: str | None = None
    adapters: tuple[str, ...] = ()


class MemoryFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What running needs, in bytes: weights + context × batch × kv_bytes_per_token + runtime."""

    weight_bytes: Count
    kv_bytes_per_token: Count
    runtime_bytes: Count

    def total(self, context: int, batch: int) -> int:
        """Bytes for `batch` sequences of `context` tokens each."""
        return self.weight_bytes + context * batch * self.kv_bytes_per_token + self.runtime_bytes


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole manifest. Nothing in it depends on the time, place or machine of the build."""

    format: Annotated[int, msgspec.Meta(ge=1)]
    edgellm: str
    """Version of edgellm that wrote the bundle."""
    target: Name
    backend: Name
    backend_version: str
    quant: Name
    batching: BatchingMode
    context: Annotated[int, msgspec.Meta(ge=1)]
    """Tokens one sequence may hold: prompt and answer together."""
    model: ModelConfig
    tokenizer: TokenizerFacts
    chat_template: RelativePath | None
    """The chat template's file; None for a base model without one."""
    sampling: SamplingDefaults
    source: Source
    memory: MemoryFacts
    files: Annotated[tuple[FileEntry, ...], msgspec.Meta(min_length=1, max_length=MAX_FILES)]
    """Every file but the manifest itself, sorted by path."""
    checksum: Sha256 = ZERO_SHA256
    """SHA-256 of this file's bytes with the 64 digits of this field taken as zeros. Always the last field."""

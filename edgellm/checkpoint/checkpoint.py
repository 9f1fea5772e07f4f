"""`Checkpoint`: a Hugging Face model directory, opened and checked before any work is done with it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from edgellm.bundle.manifest import SamplingDefaults, TokenizerFacts
from edgellm.bundle.model_config import ModelConfig
from edgellm.checkpoint.adapters import Adapter
from edgellm.checkpoint.chat_template import read_chat_template
from edgellm.checkpoint.config import parse_config, read_family
from edgellm.checkpoint.generation import read_sampling
from edgellm.checkpoint.jsonfile import read_json
from edgellm.checkpoint.tensors import TensorReader
from edgellm.checkpoint.tokenizer_facts import read_tokenizer_facts
from edgellm.checkpoint.weights import Weights, locate, tied
from edgellm.errors import CheckpointError


@dataclass
class Checkpoint:
    """All that is known about a checkpoint, its weights ready to be read.

    Attributes:
        path: the directory. name: Hugging Face id, or the directory's name. revision: commit, if known.
        config: the normal form of config.json. raw_config: the object itself.
        weights: parameters by canonical name, float32, adapters merged (see `edgellm.checkpoint.weights`).
        tensors: the stored tensors below them.
        tokenizer_file: tokenizer.json. chat_template: Jinja source, None for a base model.
    """

    path: Path
    name: str
    revision: str | None
    license: str | None
    adapters: tuple[str, ...]
    config: ModelConfig
    raw_config: dict[str, Any]
    weights: Weights
    tensors: TensorReader
    tokenizer_file: Path
    tokenizer_facts: TokenizerFacts
    chat_template: str | None
    sampling: SamplingDefaults

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        name: str | None = None,
        revision: str | None = None,
        adapters: Sequence[Path] = (),
    ) -> Checkpoint:
        """Read and check everything but the values of the weights.

        Args:
            adapters: directories of PEFT LoRA adapters, merged in this order.

        Raises:
            CheckpointError: a file is missing, damaged, or contradicts another.
            UnsupportedError: the family or a feature is not implemented.
            TemplateError: the chat template is malformed, hostile or fails.
        """
        if not directory.is_dir():
            raise CheckpointError(
                f"{directory} is not a directory; give a checkpoint's directory or Hugging Face id"
            )
        raw = read_json(directory / "config.json")
        family, _ = read_family(raw)
        config = parse_config(raw)
        tokenizer_config = _optional_json(directory / "tokenizer_config.json")
        generation = _optional_json(directory / "generation_config.json")
        tokenizer_file = directory / "tokenizer.json"
        facts = read_tokenizer_facts(
            tokenizer_file, tokenizer_config, config, raw, generation, family.unused_tokens
        )
        sampling = read_sampling(generation)
        template = read_chat_template(directory, tokenizer_config, facts)
        tensors = TensorReader.open(directory)
        config = msgspec.structs.replace(config, tie_word_embeddings=tied(family, config, tensors))
        places = locate(family, config, tensors)
        merged = [Adapter.open(adapter, family, places) for adapter in adapters]
        return cls(
            path=directory,
            name=name or directory.resolve().name,
            revision=revision,
            license=_license(directory / "README.md"),
            adapters=tuple(adapter.name for adapter in merged),
            config=config,
            raw_config=raw,
            weights=Weights(tensors, places, merged),
            tensors=tensors,
            tokenizer_file=tokenizer_file,
            tokenizer_facts=facts,
            chat_template=template,
            sampling=sampling,
        )

    def close(self) -> None:
        """Close the weight files, and those of adapters."""
        self.weights.close()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _optional_json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _license(readme: Path) -> str | None:
    """`license` (or, if that is "other", `license_name`) of the model card's front matter."""
    try:
        with readme.open(encoding="utf-8", errors="replace") as file:
            head = file.read(1 << 16)
    except OSError:
        return None
    parts = head.split("---", 2)
    if len(parts) < 3 or parts[0].strip():
        return None
    fields = dict(
        re.findall(r"^(license|license_name):[ \t]*['\"]?([\w.+ -]{1,100}?)['\"]?[ \t]*$", parts[1], re.M)
    )
    value = fields.get("license")
    return fields.get("license_name", value) if value == "other" else value

"""`Checkpoint`: a Hugging Face model directory, opened and checked before any work is done with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from edgellm.bundle.manifest import SamplingDefaults, TokenizerFacts
from edgellm.bundle.model_config import ModelConfig
from edgellm.checkpoint.config import parse_config, read_family
from edgellm.checkpoint.generation import read_sampling
from edgellm.checkpoint.jsonfile import read_json
from edgellm.checkpoint.tensors import TensorReader
from edgellm.checkpoint.tokenizer_facts import read_tokenizer_facts
from edgellm.checkpoint.weights import Weights, locate
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
        tensors = TensorReader.open(directory)
        weights = Weights(tensors, locate(family, config, tensors))
        return cls(
            path=directory,
            name=name or directory.resolve().name,
            revision=revision,
            license=None,
            adapters=(),
            config=config,
            raw_config=raw,
            weights=weights,
            tensors=tensors,
            tokenizer_file=tokenizer_file,
            tokenizer_facts=facts,
            chat_template=None,
            sampling=sampling,
        )

    def close(self) -> None:
        """Close the weight files."""
        self.tensors.close()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _optional_json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}

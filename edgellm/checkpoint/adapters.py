"""PEFT LoRA adapters, merged into the weights as they are read: W += scaling * B @ A.

LoRA: Hu et al. 2021, https://arxiv.org/abs/2106.09685; scaling is alpha / r, or alpha / sqrt(r) with
`use_rslora` (Kalajdzievski 2023, https://arxiv.org/abs/2312.03732). Files: `adapter_config.json` and
`adapter_model.safetensors`, as PEFT writes them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgellm.checkpoint.families import Family
from edgellm.checkpoint.fields import Fields
from edgellm.checkpoint.jsonfile import read_json
from edgellm.checkpoint.tensors import TensorReader
from edgellm.checkpoint.weights import Float32s, Place
from edgellm.errors import CheckpointError, UnsupportedError

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
MAX_RANK = 1 << 16
_BLOCK_ROWS = 1024

# Key -> why it is refused when set to anything but null, false or an empty value.
_REFUSED = {
    "use_dora": "DoRA is not implemented; merge it with PEFT first",
    "use_qalora": "QALoRA is not implemented; merge it with PEFT first",
    "modules_to_save": "whole saved modules are not implemented; merge the adapter with PEFT first",
    "lora_bias": "biases in LoRA are not implemented; merge it with PEFT first",
    "layer_replication": "replicated layers are not implemented; merge it with PEFT first",
    "trainable_token_indices": "trained tokens are not implemented; merge the adapter with PEFT first",
    "target_parameters": "LoRA on bare parameters is not implemented; merge it with PEFT first",
    "alora_invocation_tokens": "activated LoRA cannot be merged; use a plain LoRA",
    "use_bdlora": "block-diagonal LoRA is not implemented; use a plain LoRA",
    "kasa_config": "KaSA is not implemented; merge the adapter with PEFT first",
    "monteclora_config": "MonteCLoRA is not implemented; use a plain LoRA",
    "arrow_config": "routed adapters cannot be merged; use a plain LoRA",
}
# These initialisations change the base weights too, so that B @ A alone is not the whole change.
_BASE_CHANGING = ("pissa", "olora", "corda", "loftq", "lora_ga")


@dataclass(frozen=True)
class _Delta:
    """One pair of matrices. `start`: where the parameter's rows begin in B (0 unless it is fused)."""

    a: str
    b: str
    scaling: float
    start: int
    transposed: bool


class Adapter:
    """An opened adapter: which parameters it changes, and how."""

    def __init__(self, name: str, tensors: TensorReader, deltas: Mapping[str, _Delta]) -> None:
        self.name = name
        self._tensors = tensors
        self._deltas = deltas

    @classmethod
    def open(cls, directory: Path, family: Family, places: Mapping[str, Place]) -> Adapter:
        """Read and check an adapter for the model whose parameters lie at `places` (canonical name -> place).

        Raises:
            CheckpointError: a file is missing or damaged, or does not fit the model.
            UnsupportedError: the adapter is of a kind that is not implemented.
        """
        if not directory.is_dir():
            raise CheckpointError(
                f"adapter {directory} is not a directory; give one with {CONFIG} and {WEIGHTS}"
            )
        config = Fields(read_json(directory / CONFIG), {"use_rslora": False}, f"{directory / CONFIG}: ")
        _refuse(config)
        if not (directory / WEIGHTS).is_file() and (directory / "adapter_model.bin").is_file():
            raise UnsupportedError(
                f"{directory} holds pickled weights, which are never loaded; save it as {WEIGHTS}"
            )
        tensors = TensorReader.open_file(directory / WEIGHTS)
        deltas: dict[str, _Delta] = {}
        for module, a, b in _pairs(tensors, directory / WEIGHTS):
            deltas |= _deltas(module, a, b, config, tensors, family, places)
        if not deltas:
            raise CheckpointError(f"{directory / WEIGHTS} has no LoRA weights")
        return cls(directory.resolve().name, tensors, deltas)

    def changes(self, name: str) -> bool:
        """Whether it changes the parameter `name`."""
        return name in self._deltas

    def apply(self, name: str, weight: Float32s, first: int = 0) -> None:
        """Add the change to `weight`, rows of the parameter `name` from `first` on, in place.

        weight: float32[rows, inputs].
        """
        delta = self._deltas.get(name)
        if delta is None:
            return
        rows = slice(first, first + weight.shape[0])
        if delta.transposed:
            a = np.ascontiguousarray(self._tensors.read_float32(delta.b).T)
            b = np.ascontiguousarray(self._tensors.read_float32(delta.a).T[rows])
        else:
            a = self._tensors.read_float32(delta.a)
            b = self._tensors.read_float32(delta.b, slice(rows.start + delta.start, rows.stop + delta.start))
        b *= np.float32(delta.scaling)
        for start in range(0, weight.shape[0], _BLOCK_ROWS):  # no second matrix of the weight's size
            block = slice(start, start + _BLOCK_ROWS)
            weight[block] += b[block] @ a

    def close(self) -> None:
        """Close the file."""
        self._tensors.close()


def _refuse(config: Fields) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise UnsupportedError(f"{config.where}peft_type {kind!r} is not implemented; LORA is")
    for key, reason in _REFUSED.items():
        if config.get(key):
            raise UnsupportedError(f"{config.where}{key} is set: {reason}")
    if config.get("bias") not in (None, "none"):
        raise UnsupportedError(f"{config.where}bias {config.get('bias')!r} is not implemented; 'none' is")
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_BASE_CHANGING):
        raise UnsupportedError(
            f"{config.where}init_lora_weights {start!r} changes the base weights too; "
            "convert it to a plain LoRA with PEFT"
        )


def _pairs(tensors: TensorReader, file: Path) -> list[tuple[str, str, str]]:
    """(module's path in the model, A's name, B's name) for every adapted module."""
    found: dict[str, dict[str, str]] = {}
    for name in tensors:
        match = re.fullmatch(r"base_model\.model\.(.+)\.lora_(embedding_)?([AB])(\.[^.]+)?(\.weight)?", name)
        if match is None:
            raise UnsupportedError(
                f"{file}: tensor {name} is not a LoRA matrix; merge the adapter with PEFT first"
            )
        found.setdefault(match[1], {})[match[3]] = name
    for module, pair in found.items():
        if len(pair) != 2:
            raise CheckpointError(
                f"{file}: {module} has only one of its matrices A and B; save the adapter again"
            )
    return [(module, pair["A"], pair["B"]) for module, pair in found.items()]


def _deltas(
    module: str,
    a: str,
    b: str,
    config: Fields,
    tensors: TensorReader,
    family: Family,
    places: Mapping[str, Place],
) -> dict[str, _Delta]:
    names = _parameters(module, family, places, tensors.file_of(a))
    embedding = ".lora_embedding_" in a
    shapes = [places[name].shape for name in names]
    outputs, inputs = sum(shape[0] for shape in shapes), shapes[0][1]
    if embedding:  # an embedding is stored [tokens, width], and its A reads tokens
        outputs, inputs = inputs, outputs
    if embedding != (names == ["embed.weight"]):
        raise CheckpointError(f"{tensors.file_of(a)}: {a} does not fit the kind of module {module}")
    shape_a, shape_b = tensors[a].shape, tensors[b].shape
    rank = shape_a[0] if len(shape_a) == 2 else 0
    if not 1 <= rank <= MAX_RANK or shape_a != (rank, inputs) or shape_b != (outputs, rank):
        raise CheckpointError(
            f"{tensors.file_of(a)}: {module} has A {list(shape_a)} and B {list(shape_b)}, which do not fit "
            f"the model's [{outputs}, {inputs}]: the adapter belongs to another model"
        )
    alpha = _alpha(module, config)
    scaling = alpha / (math.sqrt(rank) if config.boolean("use_rslora") else rank)
    deltas: dict[str, _Delta] = {}
    start = 0
    for name, shape in zip(names, shapes, strict=True):
        deltas[name] = _Delta(a, b, scaling, start, embedding)
        start += shape[0]
    return deltas


def _parameters(module: str, family: Family, places: Mapping[str, Place], file: Path) -> list[str]:
    """Canonical parameters that make up the stored `module`: several if it is fused."""
    bare = next((module[len(p) :] for p in _longest_first(family) if module.startswith(p)), module)
    match = re.fullmatch(r"layers\.(\d{1,6})\.(.+)", bare)
    if match:
        layer, inner = f"layers.{int(match[1])}", match[2]
        parts = family.tensors.fused.get(inner) or tuple(
            c for c, s in family.tensors.layer.items() if s == inner
        )
        names = [f"{layer}.{part}.weight" for part in parts]
    elif module in family.tensors.lm_heads:
        names = ["lm_head.weight"]
    else:
        names = [f"{c}.weight" for c, s in family.tensors.top.items() if s == bare]
    tied = "lm_head.weight" not in places
    if tied and names and names[0] in ("embed.weight", "lm_head.weight"):
        raise UnsupportedError(
            f"{file}: {module} is adapted, but the model shares this matrix between input and output; "
            "leave it out of target_modules"
        )
    if not names or any(name not in places or len(places[name].shape) != 2 for name in names):
        raise CheckpointError(
            f"{file}: the model has no module {module}: the adapter belongs to another model"
        )
    return names


def _longest_first(family: Family) -> list[str]:
    return sorted(family.tensors.prefixes, key=len, reverse=True)


def _alpha(module: str, config: Fields) -> float:
    """`lora_alpha`, or what the first key of `alpha_pattern` says that matches the end of `module`."""
    patterns = config.child("alpha_pattern")
    for pattern in patterns.raw:
        # Patterns come from outside: nothing that can take more than polynomial time.
        if len(pattern) > 256 or len(re.findall(r"[*+?{]", pattern)) > 3 or re.search(r"\)[*+?{]", pattern):
            raise UnsupportedError(
                f"{patterns.where}{pattern[:40]} is too intricate a pattern; write module names"
            )
        try:
            fits = re.match(rf"(.*\.)?({pattern})$", module)
        except re.error:
            raise CheckpointError(f"{patterns.where}{pattern[:40]} is not a regular expression") from None
        if fits:
            return patterns.number(pattern, -1e6, 1e6)
    return config.number("lora_alpha", -1e6, 1e6)

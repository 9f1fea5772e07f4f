"""`Weights`: a checkpoint's parameters under one naming for all families, adapters merged.

Canonical names; every projection is a matrix [outputs, inputs] as in `torch.nn.Linear`:

    embed.weight [vocab, hidden]      norm.weight [hidden]      lm_head.weight [vocab, hidden], unless tied
    layers.<i>.input_norm.weight [hidden]            RMSNorm before attention
    layers.<i>.q_proj.weight [heads * head_dim, hidden]         k_proj, v_proj [kv_heads * head_dim, hidden]
    layers.<i>.o_proj.weight [hidden, heads * head_dim]
    layers.<i>.q_norm.weight, k_norm.weight [head_dim]          with `qk_norm`
    layers.<i>.post_attention_norm.weight [hidden]              with `post_norms`: after attention
    layers.<i>.pre_mlp_norm.weight [hidden]          RMSNorm before the MLP, in every family
    layers.<i>.gate_proj.weight, up_proj.weight [intermediate, hidden]
    layers.<i>.down_proj.weight [hidden, intermediate]
    layers.<i>.post_mlp_norm.weight [hidden]                    with `post_norms`: after the MLP
    layers.<i>.{q,k,v}_proj.bias [outputs]           with `qkv_bias`; o_proj.bias with `output_bias`
    layers.<i>.{gate,up,down}_proj.bias [outputs]    with `mlp_bias`

Norm weights are as stored (with `norm_adds_one` they multiply as 1 + weight). Fused projections are split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgellm.bundle.model_config import ModelConfig
from edgellm.checkpoint.families import Family
from edgellm.checkpoint.safetensors_file import FLOATS
from edgellm.checkpoint.tensors import TensorReader
from edgellm.errors import CheckpointError, UnsupportedError

Float32s = NDArray[np.float32]
_BLOCK_ROWS = 4096


class Merge(Protocol):
    """What an adapter is to the weights."""

    @property
    def name(self) -> str: ...

    def changes(self, name: str) -> bool:
        """Whether the adapter changes the parameter called `name` (canonical)."""
        ...

    def apply(self, name: str, weight: Float32s, first: int = 0) -> None:
        """Add the adapter's change to `weight`, rows of parameter `name` from `first` on, in place."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Place:
    """Where a canonical parameter is stored: rows of tensor `stored` from `start` on (0 unless fused)."""

    stored: str
    shape: tuple[int, ...]
    start: int = 0


class Weights:
    """Parameters by canonical name."""

    def __init__(
        self, tensors: TensorReader, places: dict[str, Place], adapters: Sequence[Merge] = ()
    ) -> None:
        self._tensors = tensors
        self._places = places
        self._adapters = tuple(adapters)

    def names(self) -> list[str]:
        """Canonical names, in the order of computation."""
        return list(self._places)

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of parameter `name`."""
        return self._places[name].shape

    def dtype(self, name: str) -> str:
        """How parameter `name` is stored: F32, F16 or BF16."""
        return self._tensors[self._places[name].stored].dtype

    def stored_name(self, name: str) -> str:
        """The checkpoint's own name of parameter `name`."""
        return self._places[name].stored

    def nbytes(self, name: str) -> int:
        """Bytes that parameter `name` takes in the checkpoint."""
        entry = self._tensors[self._places[name].stored]
        return entry.nbytes * self._places[name].shape[0] // max(1, entry.shape[0])

    def total_bytes(self) -> int:
        """Bytes that all parameters take in the checkpoint."""
        return sum(self.nbytes(name) for name in self._places)

    def read(self, name: str, rows: slice | None = None) -> Float32s:
        """Parameter `name` as a new float32 array, adapters merged.

        Args:
            rows: only these; start and stop given, as from 0 in the parameter. None = all.

        Raises CheckpointError if a value is NaN or infinite.
        """
        place = self._places[name]
        first, last = (0, place.shape[0]) if rows is None else (rows.start, min(rows.stop, place.shape[0]))
        weight = self._tensors.read_float32(place.stored, slice(place.start + first, place.start + last))
        for adapter in self._adapters:
            if not adapter.changes(name):
                continue
            adapter.apply(name, weight, first)
            if not np.isfinite(weight).all():
                raise CheckpointError(
                    f"adapter {adapter.name} makes {name} infinite or NaN; its weights are damaged"
                )
        return weight

    def close(self) -> None:
        """Close the weight files, and those of adapters."""
        for adapter in self._adapters:
            adapter.close()
        self._tensors.close()


def shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Every canonical parameter of a model of this configuration, with its shape."""
    c = config
    q, kv = c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim
    result: dict[str, tuple[int, ...]] = {"embed.weight": (c.vocab_size, c.hidden_size)}
    for i in range(c.num_layers):
        layer: dict[str, tuple[int, ...]] = {"input_norm.weight": (c.hidden_size,)}
        for proj, rows in (("q_proj", q), ("k_proj", kv), ("v_proj", kv)):
            layer[f"{proj}.weight"] = (rows, c.hidden_size)
            if c.qkv_bias:
                layer[f"{proj}.bias"] = (rows,)
        if c.qk_norm:
            layer |= {"q_norm.weight": (c.head_dim,), "k_norm.weight": (c.head_dim,)}
        layer["o_proj.weight"] = (c.hidden_size, q)
        if c.output_bias:
            layer["o_proj.bias"] = (c.hidden_size,)
        if c.post_norms:
            layer["post_attention_norm.weight"] = (c.hidden_size,)
        layer["pre_mlp_norm.weight"] = (c.hidden_size,)
        mlp = (c.intermediate_size, c.hidden_size)
        for proj, shape in (("gate_proj", mlp), ("up_proj", mlp), ("down_proj", mlp[::-1])):
            layer[f"{proj}.weight"] = shape
            if c.mlp_bias:
                layer[f"{proj}.bias"] = shape[:1]
        if c.post_norms:
            layer["post_mlp_norm.weight"] = (c.hidden_size,)
        result |= {f"layers.{i}.{name}": shape for name, shape in layer.items()}
    result["norm.weight"] = (c.hidden_size,)
    if not c.tie_word_embeddings:
        result["lm_head.weight"] = (c.vocab_size, c.hidden_size)
    return result


def locate(family: Family, config: ModelConfig, tensors: TensorReader) -> dict[str, Place]:
    """Canonical name -> place, for every parameter; CheckpointError names what is missing or misshapen."""
    wanted = shapes(config)
    names = family.tensors
    prefix = _prefix(family, tensors)
    places: dict[str, Place] = {}
    for name, shape in wanted.items():
        *scope, module, kind = name.split(".")
        if module == "lm_head":
            places[name] = Place(_head(family, tensors) or f"{names.lm_heads[0]}.weight", shape)
        elif not scope:
            places[name] = Place(f"{prefix}{names.top[module]}.{kind}", shape)
        elif module in names.layer:
            places[name] = Place(f"{prefix}{'.'.join(scope)}.{names.layer[module]}.{kind}", shape)
        else:
            fused, parts = next(item for item in names.fused.items() if module in item[1])
            before = parts[: parts.index(module)]
            start = sum(wanted[".".join([*scope, part, kind])][0] for part in before)
            places[name] = Place(f"{prefix}{'.'.join(scope)}.{fused}.{kind}", shape, start)
    embed, head = places["embed.weight"], _head(family, tensors)
    if config.tie_word_embeddings and head is not None and embed.stored not in tensors:
        places["embed.weight"] = Place(head, embed.shape)  # one matrix, stored under its other name
    _check(places, tensors)
    return places


def tied(family: Family, config: ModelConfig, tensors: TensorReader) -> bool:
    """Whether input and output share one matrix: `tie_word_embeddings`, unless two different ones are stored.

    The same rule as in transformers 5: a stored output matrix of its own was trained, whatever the key says.
    """
    head = _head(family, tensors)
    embed = f"{_prefix(family, tensors)}{family.tensors.top['embed']}.weight"
    if not config.tie_word_embeddings or head is None or embed not in tensors:
        return config.tie_word_embeddings
    if tensors[head].shape != tensors[embed].shape or not tensors[head].shape:
        return False
    for start in range(0, tensors[head].shape[0], _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        if not np.array_equal(tensors.read_float32(head, rows), tensors.read_float32(embed, rows)):
            return False
    return True


def _prefix(family: Family, tensors: TensorReader) -> str:
    names = family.tensors
    first = f"layers.0.{names.layer['input_norm']}.weight"
    return next((p for p in names.prefixes if p + first in tensors), names.prefixes[0])


def _head(family: Family, tensors: TensorReader) -> str | None:
    """Stored name of the output matrix, if there is one."""
    return next((f"{head}.weight" for head in family.tensors.lm_heads if f"{head}.weight" in tensors), None)


def _check(places: dict[str, Place], tensors: TensorReader) -> None:
    rows: dict[str, int] = {}
    for place in places.values():
        rows[place.stored] = rows.get(place.stored, 0) + (place.shape[0] if place.shape else 0)
    for name, place in places.items():
        if place.stored not in tensors:
            hint = "; config.json may need tie_word_embeddings true" if name == "lm_head.weight" else ""
            raise CheckpointError(f"tensor {place.stored} is missing from the safetensors files{hint}")
        entry = tensors[place.stored]
        if entry.dtype not in FLOATS:
            raise UnsupportedError(
                f"{tensors.file_of(place.stored)}: tensor {place.stored} is stored as {entry.dtype}; "
                f"readable are {', '.join(FLOATS)} (give the unquantized checkpoint)"
            )
        expected = (rows[place.stored], *place.shape[1:])
        if entry.shape != expected:
            raise CheckpointError(
                f"{tensors.file_of(place.stored)}: tensor {place.stored} has shape {list(entry.shape)}, "
                f"but config.json asks for {list(expected)}"
            )

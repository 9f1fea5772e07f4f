"""Model families: what `models/<family>.toml` says about each architecture that can be read."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal

import msgspec

from edgellm.errors import UnsupportedError
from edgellm.resources import data_dir


class TensorNames(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a family names its tensors. Canonical names are those of `edgellm.checkpoint.weights`."""

    prefixes: tuple[str, ...]
    """What may stand before `layers.0…`; the first one that fits the checkpoint counts."""
    lm_heads: tuple[str, ...]
    """Names the output matrix may have, without `.weight`."""
    top: dict[str, str]
    """Canonical module outside the layers -> stored module, below the prefix."""
    layer: dict[str, str]
    """Canonical module of a layer -> stored module, below `layers.<i>.`."""
    fused: dict[str, tuple[str, ...]] = {}
    """Stored module of a layer -> canonical modules it stacks along its rows, in order."""


class Family(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One architecture, named by its Hugging Face `model_type`."""

    name: str
    title: str
    description: str
    model_types: tuple[str, ...]
    """Values of `model_type` in config.json; a nested `text_config` is looked into."""
    architectures: tuple[str, ...]
    """Values of `architectures` in config.json that are language models of this family."""
    examples: tuple[str, ...]
    """Hugging Face ids of the family."""
    limits: dict[str, tuple[str, ...]] = {}
    """Backend -> what it cannot do with this family, for people to read."""
    defaults: dict[str, Any]
    """Values of config keys that a config.json may omit, as in transformers' configuration class."""
    activation_key: str = "hidden_act"
    features: dict[str, bool | str]
    """Field of `ModelConfig` -> its value, or the (boolean) config key that holds it."""
    rope_kinds: tuple[str, ...]
    """Kinds of rope scaling that the family is defined for."""
    sliding: Literal["none", "all", "layers"] = "none"
    """Which layers a sliding window applies to, if config.json sets one."""
    unused_tokens: tuple[str, ...] = ()
    """Tokens that the family's tokenizer has beyond the model's vocabulary (placeholders of images)."""
    tensors: TensorNames


def families() -> Mapping[str, Family]:
    """Every family by name, in alphabetical order."""
    return _load()


def family_of(model_type: str) -> Family:
    """The family that reads `model_type`; UnsupportedError names the nearest known one otherwise."""
    known = {kind: family for family in _load().values() for kind in family.model_types}
    if model_type in known:
        return known[model_type]
    near = difflib.get_close_matches(model_type, known, n=1, cutoff=0.5)
    hint = f"the nearest is {near[0]!r}; " if near else ""
    raise UnsupportedError(
        f"config.json: model_type {model_type!r} is not a family that can be read; "
        f"{hint}readable are {', '.join(sorted(known))}"
    )


@cache
def _load() -> dict[str, Family]:
    files = sorted(data_dir("models").glob("*.toml"))
    loaded = [msgspec.toml.decode(file.read_bytes(), type=Family) for file in files]
    return {family.name: family for family in loaded}

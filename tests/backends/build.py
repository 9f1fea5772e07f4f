"""Builds of small checkpoints for the backend tests, each made once a session."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from edgellm.backends.base import BuildPlan, Built, LoadOptions
from edgellm.backends.ctranslate2.backend import backend, load_directory
from edgellm.backends.ctranslate2.executor import CTranslate2Executor
from edgellm.backends.executor import Cohort
from edgellm.backends.params import SamplingParams
from edgellm.bundle.model_config import ModelConfig
from edgellm.checkpoint.checkpoint import Checkpoint
from tests.golden.cases import CASES, CONTEXT, golden

GREEDY = SamplingParams(temperature=0)
HOT = SamplingParams(temperature=1.5)


@dataclass(frozen=True)
class Model:
    """A built model and an executor over it."""

    directory: Path
    config: ModelConfig
    built: Built
    executor: CTranslate2Executor


@cache
def _root() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="edgellm-tests-")


@cache
def checkpoint(name: str) -> Path:
    """The checkpoint of golden case `name`."""
    directory = Path(_root().name) / name
    return CASES[name].make(directory, golden(name).seed)


def build(
    source: Path, out: Path, quant: str, context: int = CONTEXT, adapters: Sequence[Path] = ()
) -> Built:
    """Build `source` into the new directory `out`."""
    out.mkdir(parents=True)
    with Checkpoint.open(source, adapters=adapters) as opened:
        plan = BuildPlan("x86-64", quant, context)
        assert backend.refuse(opened.config, plan) is None
        return backend.build(opened, plan, out, lambda *at: None)


def model(name: str, quant: str = "fp32", context: int = CONTEXT) -> Model:
    """Golden case `name`, built and loaded with two workers of one thread."""
    return _model(name, quant, context)


@cache
def _model(name: str, quant: str, context: int) -> Model:
    out = Path(_root().name) / f"{name}-{quant}-{context}"
    built = build(checkpoint(name), out, quant, context)
    with Checkpoint.open(checkpoint(name)) as opened:
        config = opened.config
    executor = load_directory(out, config, quant, context, LoadOptions(threads=1, workers=2))
    return Model(out, config, built, executor)


def generate(
    executor: CTranslate2Executor,
    prompts: list[list[int]],
    params: SamplingParams = GREEDY,
    tokens: int | list[int] = 64,
    *,
    end_ids: tuple[int, ...] = (),
    seed: int | None = None,
) -> list[list[int]]:
    """New tokens of each row."""
    rows: list[list[int]] = [[] for _ in prompts]

    def on_token(row: int, token: int, logprob: float | None) -> bool:
        rows[row].append(token)
        return False

    lengths = tokens if isinstance(tokens, list) else [tokens] * len(prompts)
    executor.run(Cohort(prompts, params, lengths, end_ids, seed), on_token)
    return rows


def checkpoint_config(source: Path) -> ModelConfig:
    """The configuration of the checkpoint in `source`."""
    with Checkpoint.open(source) as opened:
        return opened.config

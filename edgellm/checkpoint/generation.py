"""Sampling defaults from `generation_config.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgellm.bundle.manifest import SamplingDefaults
from edgellm.checkpoint.fields import Fields


def read_sampling(generation: Mapping[str, Any]) -> SamplingDefaults:
    """What a request gets that says nothing about sampling.

    As in transformers, a checkpoint is sampled from only if its file says `do_sample: true`; then the values
    written there count, and what it leaves out is off (transformers' own top_k of 50 is not a choice of the
    checkpoint). Otherwise, and without the file, decoding is greedy: temperature 0. The repetition penalty
    applies either way. Raises CheckpointError for a value of the wrong type or range.
    """
    fields = Fields(
        generation,
        {
            "do_sample": False,
            "temperature": 1.0,
            "top_k": 0,
            "top_p": 1.0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
        },
        "generation_config.json: ",
    )
    penalty = fields.number("repetition_penalty", 1e-3, 10.0)
    if not fields.boolean("do_sample"):
        return SamplingDefaults(temperature=0.0, repetition_penalty=penalty)
    return SamplingDefaults(
        temperature=fields.number("temperature", 0.0, 100.0),
        top_k=fields.integer("top_k", 0, 2**31 - 1),
        top_p=fields.number("top_p", 1e-9, 1.0),
        min_p=fields.number("min_p", 0.0, 1.0),
        repetition_penalty=penalty,
    )

"""The demo model's answers on a GPU beside a reference in numpy with the same quantized weights."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np

from edgellm import Engine
from edgellm.quantize import int4

NEAR_TIE = 0.01
"""Between a token's logit and the largest, in the reference."""
NEW_TOKENS = 24


def check_answers(bundle: Path, checkpoint: Path, count: int) -> dict[str, Any]:
    """Greedy answers to the first held-out conversations, all in one batch.

    The reference reads each answer and says at every place what it would have chosen. Where that is the
    answer's token everywhere, the answer is the one that the reference would have given.

    Returns:
        How many `tokens`, how many of them the reference would not have chosen but another as likely
        (`near_ties`) or not nearly as likely (`different`), and the largest `margin` of those.
    """
    with Engine(bundle, context=256, max_batch=max(1, count)) as engine:
        lines = (checkpoint / "heldout.jsonl").read_text("utf-8").splitlines()
        prompts = [engine.encode_messages(json.loads(line)["messages"]) for line in lines[:count]]
        greedy = engine.params(temperature=0.0, max_tokens=NEW_TOKENS, ignore_eos=True)
        answers = [one.result().token_ids for one in engine.submit_many(prompts, [greedy] * len(prompts))]
    reference = _reference(checkpoint)
    margins = []
    for prompt, answer in zip(prompts, answers, strict=True):
        logits = reference.logits([*prompt, *answer])[len(prompt) - 1 : -1]
        chosen = logits[np.arange(len(answer)), list(answer)]
        margins += (logits.max(axis=1) - chosen).tolist()
    off = [one for one in margins if one > 0]
    return {
        "tokens": len(margins),
        "near_ties": sum(one < NEAR_TIE for one in off),
        "different": sum(one >= NEAR_TIE for one in off),
        "margin": max(off, default=0.0),
    }


def _reference(checkpoint: Path) -> Any:
    """The model in numpy, its matrices as int4 stores them."""
    spec = importlib.util.spec_from_file_location("demo_reference", checkpoint / "reference.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.Reference(checkpoint)
    for name, weight in model.weights.items():
        if weight.ndim == 2:
            model.weights[name] = int4.dequantize(*int4.quantize(weight))
    return model

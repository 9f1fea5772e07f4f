"""Programs as phones get them, on OpenCL's device here: right numbers, in any company."""

from __future__ import annotations

import numpy as np
import pytest

from tests.backends.plan.models import executor
from tests.backends.tvm.models import Sequences
from tests.golden.cases import golden

FAMILIES = ("llama-biases", "mistral-sliding", "qwen2-sliding", "qwen3", "gemma3", "phi3-longrope-long")


def pieces(ids: list[int]) -> list[list[int]]:
    """A prompt, some tokens at once, and single ones: every routine runs."""
    return [ids[:-16], ids[-16:-9], ids[-9:-5], ids[-5:-2], ids[-2:-1], ids[-1:]]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("target", ["adreno", "mali"])
def test_logits_are_the_references(target: str, name: str) -> None:
    reference = golden(name)
    model = Sequences(executor(name, "opencl", target=target))
    logits = np.concatenate(
        [model.step({0: piece})[0] for piece in pieces(reference.prompt + reference.tokens)]
    )
    assert np.abs(logits[reference.positions] - reference.logits).max() < 2e-3
    assert logits[len(reference.prompt) - 1 : -1].argmax(axis=-1).tolist() == reference.tokens


def test_int4_gives_what_other_programs_give() -> None:
    reference = golden("qwen2")
    found = []
    for target in (None, "mali"):
        model = Sequences(executor("qwen2", "opencl", "int4", target=target))
        ids = reference.prompt + reference.tokens
        found.append(np.concatenate([model.step({0: piece})[0] for piece in pieces(ids)]))
    np.testing.assert_allclose(*found, atol=1e-4)


@pytest.mark.parametrize("target", ["adreno", "mali"])
def test_company_changes_nothing(target: str) -> None:
    """Four sequences step by step together, and each alone."""
    rng = np.random.default_rng(11)
    texts = [rng.integers(5, 380, length).tolist() for length in (37, 20, 33, 29)]
    model = executor("gemma3", "opencl", target=target)
    together, seen = Sequences(model, 1), []
    together.step({i: text[:-3] for i, text in enumerate(texts)})
    for back in (3, 2, 1):
        seen.append(together.step({i: text[len(text) - back :][:1] for i, text in enumerate(texts)}))
    for i, text in enumerate(texts):
        alone = Sequences(model, 2 + i).step({0: text})[0]
        found = np.concatenate([one[i] for one in seen])
        np.testing.assert_allclose(found, alone[-3:], atol=1e-4, err_msg=f"sequence {i}")

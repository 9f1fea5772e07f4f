"""What the README promises: on held-out text int4 costs the demo model at most 4 % of its perplexity, and
int8 at most 0.5 %.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import edgellm
from edgellm.evaluation import evaluate
from tests.evaluation.demo import module, write_texts
from tests.support import require


@pytest.mark.parametrize(
    ("backend", "quant", "percent", "agreement"),
    [("ctranslate2", "int8", 0.5, 0.99), ("tvm", "int8", 0.5, 0.99), ("tvm", "int4", 4, 0.95)],
)
def test_the_demo_model_keeps_its_perplexity(
    backend: str, quant: str, percent: float, agreement: float, tmp_path: Path
) -> None:
    for name in ("ctranslate2",) if backend == "ctranslate2" else ("ctranslate2", "tvm", "ziglang"):
        require(module=name, reason="it builds and runs the bundles: pip install 'edgellm[test]'")
    texts = write_texts(tmp_path / "heldout.jsonl", module("heldout").texts()[::2])
    built = edgellm.build("demo", quant=quant, backend=backend, out=tmp_path / "bundle")
    report = evaluate(built, texts, against="demo", threads=1)
    against = report.against
    assert against is not None and report.tokens > 10_000
    change = 100 * (against.perplexity_ratio - 1)
    assert abs(change) <= percent, f"perplexity {against.perplexity:.4f} -> {report.perplexity:.4f}"
    assert against.top1_agreement >= agreement, against
    assert 0 < against.kl_median <= against.kl_mean <= against.kl_p99 <= against.kl_max


def test_two_backends_are_one_reference(tmp_path: Path) -> None:
    """In fp32 it does not matter which of them a bundle is compared with."""
    for name in ("ctranslate2", "tvm", "ziglang"):
        require(module=name, reason="it builds and runs the bundles: pip install 'edgellm[test]'")
    texts = write_texts(tmp_path / "heldout.jsonl", module("heldout").texts()[::12])
    one, other = (
        edgellm.build("demo", quant="fp32", backend=backend, out=tmp_path / backend)
        for backend in ("tvm", "ctranslate2")
    )
    against = evaluate(one, texts, against=other, threads=1).against
    assert against is not None and against.top1_agreement == 1
    assert 0 < against.kl_max < 1e-8 and abs(against.perplexity_ratio - 1) < 1e-6

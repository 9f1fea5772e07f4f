"""Steps of the TVM executor: right numbers for every family, and the same bits however tokens are grouped."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgellm.compile.heads import CacheType
from tests.backends.tvm.models import Sequences, executor, mixed, rows
from tests.compile.kernels import HERE
from tests.golden.cases import CASES, golden

CHUNKED = ("llama", "qwen2-sliding", "gemma3", "phi3-longrope-long")


@pytest.mark.parametrize("name", CASES)
def test_int8_logits_are_close_to_the_reference(name: str) -> None:
    """Random weights are the worst case for quantization; a wrong scale or axis would still stand out."""
    reference = golden(name)
    logits = Sequences(executor(name)).step({0: reference.prompt + reference.tokens})[0]
    assert _error(logits[reference.positions], reference.logits) < 0.1


@pytest.mark.parametrize("name", CASES)
def test_fp32_logits_are_the_references(name: str) -> None:
    reference = golden(name)
    logits = Sequences(executor(name, "fp32")).step({0: reference.prompt + reference.tokens})[0]
    assert np.abs(logits[reference.positions] - reference.logits).max() < 1e-3
    chosen = logits[len(reference.prompt) - 1 : -1].argmax(axis=-1)
    assert chosen.tolist() == reference.tokens


@pytest.mark.parametrize("name", ["llama-tied", "qwen3", "gemma3", "phi3-partial-rotary"])
def test_fp16_logits_are_near_the_references(name: str) -> None:
    reference = golden(name)
    logits = Sequences(executor(name, "fp16")).step({0: reference.prompt + reference.tokens})[0]
    assert 0 < _error(logits[reference.positions], reference.logits) < 5e-3


@pytest.mark.parametrize("isa", HERE[1:], ids=lambda isa: isa.name)
@pytest.mark.parametrize(("quant", "bound"), [("int4", 0.02), ("int8", 0.02), ("fp16", 1e-3), ("fp32", 1e-5)])
def test_instruction_sets_agree(isa: object, quant: str, bound: float) -> None:
    reference = golden("llama")
    sequence = reference.prompt + reference.tokens
    first, other = (
        Sequences(executor("llama", quant, one.name)).step({0: sequence})[0] for one in (HERE[0], isa)
    )
    assert 0 <= _error(other, first) < bound


@pytest.mark.parametrize("name", ["llama-one-kv-head", "qwen2-sliding", "gemma3"])
def test_an_int8_cache_changes_little(name: str) -> None:
    reference = golden(name)
    sequence = reference.prompt + reference.tokens
    exact, rounded = (
        Sequences(executor(name, "fp16", kv=kv)).step({0: sequence})[0] for kv in ("fp16", "int8")
    )
    assert 1e-4 < _error(rounded, exact) < 0.02


@pytest.mark.parametrize(
    ("name", "quant", "kv"),
    [
        *((name, quant, None) for name in CHUNKED for quant in ("int8", "fp32")),
        ("qwen2-sliding", "fp16", "int8"),
        ("gemma3", "fp16", "int8"),
    ],
)
def test_logits_do_not_depend_on_chunks_or_company(name: str, quant: str, kv: CacheType | None) -> None:
    """Random mixes of chunks and decodes of four sequences, bit for bit as each sequence at once and
    alone.
    """
    for sequence, logits, alone in mixed(executor(name, quant, kv=kv)):
        assert np.array_equal(logits, alone), f"sequence {sequence}"


def test_only_the_wanted_rows_come_back() -> None:
    model = executor("llama")
    everything = rows(model, 20, [3, 1], *range(20))
    assert everything.shape == (20, model.limits.vocab_size)
    assert np.array_equal(rows(model, 20, [3, 1], 19, 4), everything[[19, 4]])
    assert rows(model, 20, [3, 1]).shape == (0, model.limits.vocab_size)


def test_programs_started_by_a_process_that_holds_the_runtime_can_compile(demo_int4: Path) -> None:
    code = (
        "import subprocess, sys; from edgellm.engine import Engine\n"
        "with Engine(sys.argv[1]): import tvm.base\n"
        "assert tvm.base._RUNTIME_ONLY\n"
        "subprocess.run([sys.executable, '-c', 'import tvm.tirx.script'], check=True)"
    )
    command = [sys.executable, "-c", code, str(demo_int4)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _error(values: np.ndarray, reference: np.ndarray) -> float:
    """Root mean square of the difference, relative to the reference."""
    return float(np.sqrt(np.mean((values - reference) ** 2) / np.mean(reference**2)))

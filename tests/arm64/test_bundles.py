"""Bundles cross-compiled for arm64, run by emulated processors: the tokens of this machine's own bundles."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.arm64.conftest import QUANTS
from tests.arm64.sysroot import Sysroot

PROCESSORS = {"max": "i8mm", "neoverse-n1": "dotprod", "cortex-a72": "neon"}
"""Processors that qemu emulates (the last is a Raspberry Pi 4's), and the code that each should be given."""
PROMPTS = (
    "What is a bundle?",
    "Hello!",
    "What is 2 + 3?",
    "Tell me the capital of France, the capital of Italy, and which colour the sky has on a clear day.",
)
# Building all bundles is part of the first test.
pytestmark = pytest.mark.timeout(900)
Bundles = dict[tuple[str, str], Path]


@pytest.mark.parametrize("processor", PROCESSORS)
def test_each_processor_gets_its_code(arm: Sysroot, processor: str) -> None:
    code = (
        "from edgellm.backends.tvm.isa import pick_isa; from edgellm.compile.isa import ARM64; "
        "print(pick_isa([isa.name for isa in ARM64]))"
    )
    assert _checked(arm.run(["-c", code], processor=processor)).strip() == PROCESSORS[processor]


@pytest.mark.parametrize("quant", QUANTS)
def test_a_batch_has_the_tokens_of_this_machines_bundle(
    arm: Sysroot, bundles: Bundles, quant: str, tmp_path: Path
) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in PROMPTS))

    def command(target: str) -> list[str]:
        # One thread: those of several emulators would only wait for each other.
        options = ["--input", str(prompts), "--temperature", "0", "--max-tokens", "16", "--threads", "1"]
        return ["-m", "edgellm", "generate", str(bundles[quant, target]), *options]

    done = subprocess.run(
        [sys.executable, *command("native")], capture_output=True, text=True, check=False, timeout=120
    )
    expected = [json.loads(line) for line in _checked(done).splitlines()]
    assert len(expected) == len(PROMPTS) and all(answer["token_ids"] for answer in expected)
    with ThreadPoolExecutor(2) as pool:
        runs = pool.map(lambda one: arm.run(command("arm64"), processor=one), PROCESSORS)
    for processor, run in zip(PROCESSORS, runs, strict=True):
        assert [json.loads(line) for line in _checked(run).splitlines()] == expected, processor


@pytest.mark.parametrize("quant", QUANTS)
def test_every_instruction_set_computes_the_same_bits(
    arm: Sysroot, bundles: Bundles, quant: str, tmp_path: Path
) -> None:
    """They multiply in different ways, but sums of integers are exact. Processors with wider vectors add
    floats in another order, which shows after quantization."""

    def logits(isa: str) -> np.ndarray:
        out = tmp_path / f"{isa}.npy"
        arguments = ["-m", "tests.arm64.logits", str(bundles[quant, "arm64"]), str(out)]
        _checked(arm.run(arguments, environment={"EDGELLM_ISA": isa}))
        return np.load(out)

    here = tmp_path / "here.npy"
    native = str(bundles[quant, "native"])
    subprocess.run([sys.executable, "-m", "tests.arm64.logits", native, str(here)], check=True, timeout=120)
    with ThreadPoolExecutor(2) as pool:
        first, *others = pool.map(logits, PROCESSORS.values())
    assert all(np.array_equal(first, other) for other in others)
    reference = np.load(here)
    assert np.sqrt(np.mean((first - reference) ** 2) / np.mean(reference**2)) < 0.02


def test_code_that_the_processor_lacks_is_not_forced_on_it(arm: Sysroot, bundles: Bundles) -> None:
    command = ["-m", "edgellm", "generate", str(bundles["int4", "arm64"]), "--prompt", "Hello!"]
    run = arm.run(command, processor="cortex-a72", environment={"EDGELLM_ISA": "i8mm"})
    assert run.returncode == 2 and "lacks FP16, I8MM" in run.stderr and "Traceback" not in run.stderr


def _checked(run: subprocess.CompletedProcess[str]) -> str:
    """What it printed, if it ended well."""
    assert run.returncode == 0, run.stderr[-2000:]
    return run.stdout

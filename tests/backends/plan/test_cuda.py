"""CUDA programs: through a software driver everywhere, and on this machine's NVIDIA GPU where it has one."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgellm
from edgellm import Engine, adapters, cuda_driver
from edgellm.adapters import Adapter, cuda_adapters, list_adapters
from edgellm.backends.plan.cuda_host import CudaHost
from edgellm.backends.plan.executor import PlanExecutor
from edgellm.backends.tvm import gpu
from edgellm.bench import device_copy
from edgellm.bundle import verify
from edgellm.compile.gpu.ptx import to_ptx
from edgellm.compile.plan.plan import Plan
from edgellm.errors import ExecutorError, MissingDependencyError, UnsupportedError
from edgellm.targets import fitting_target
from tests.backends.plan.cuda_software import SoftwareCuda
from tests.backends.plan.models import checkpoint, open_program, program
from tests.backends.tvm.models import Sequences
from tests.conformance.runner import PROGRAMS, names, run
from tests.engine.test_gpu import assert_same
from tests.golden.cases import golden
from tests.support import require

ERRORS = {"fp32": 2e-3, "fp16": 2e-2}


@pytest.fixture
def software(monkeypatch: pytest.MonkeyPatch) -> Iterator[SoftwareCuda]:
    """The software driver, in place of this machine's."""
    yield SoftwareCuda(monkeypatch)
    cuda_driver.driver.cache_clear()


@pytest.fixture
def card() -> Adapter:
    """An NVIDIA GPU, which nothing can install: without one the test is skipped also where CI is true."""
    cuda_driver.driver.cache_clear()
    try:
        found = cuda_adapters()
    except cuda_driver.CudaError as error:
        pytest.skip(f"needs an NVIDIA GPU: {error}")
    return found[0] if found else pytest.skip("needs a newer NVIDIA GPU")


def compiled(plan: Plan, texts: Any) -> dict[str, str]:
    """PTX, which the conformance programs do not have beside their texts."""
    return {
        kernel.source: to_ptx(
            texts[kernel.source], kernel.name, buffers=len(kernel.access), scalars=len(kernel.scalars)
        )
        for kernel in plan.kernels
    }


def conformance(name: str, adapter: Adapter) -> None:
    run(
        name,
        "cuda",
        lambda plan, texts, weights, sizes: CudaHost(plan, compiled(plan, texts), weights, sizes, adapter),
    )


def software_executor(software: SoftwareCuda, name: str, arithmetic: str = "fp32") -> PlanExecutor:
    folder = program(name, "fp32", (f"cuda-{arithmetic}",))
    software.use(folder / f"cuda-{arithmetic}")
    return open_program(folder, name, software.adapter().name)


def check_logits(model: PlanExecutor, name: str, arithmetic: str) -> None:
    """A prompt, some tokens at once, and single ones: every routine runs."""
    reference = golden(name)
    ids = reference.prompt + reference.tokens
    feed = Sequences(model)  # type: ignore[arg-type]
    pieces = [ids[: len(ids) - 6], ids[len(ids) - 6 : len(ids) - 2], ids[-2:-1], ids[-1:]]
    logits = np.concatenate([feed.step({0: piece})[0] for piece in pieces])
    assert np.abs(logits[reference.positions] - reference.logits).max() < ERRORS[arithmetic] * max(
        1, np.abs(reference.logits).max()
    )
    if arithmetic == "fp32":
        chosen = logits[len(reference.prompt) - 1 : -1].argmax(axis=-1)
        assert chosen.tolist() == reference.tokens


@pytest.mark.parametrize("name", names())
def test_conformance(name: str, software: SoftwareCuda) -> None:
    [folder] = (PROGRAMS / name).glob("cuda-*")
    software.use(folder)
    conformance(name, software.adapter())
    assert software.held() == 0


@pytest.mark.parametrize("arithmetic", ["fp32", "fp16"])
@pytest.mark.parametrize("name", ["llama-biases", "gemma3"])
def test_logits_are_the_references(name: str, arithmetic: str, software: SoftwareCuda) -> None:
    model = software_executor(software, name, arithmetic)
    check_logits(model, name, arithmetic)
    assert software.held() > 0
    model.close()
    assert software.held() == 0


def test_any_thread_may_run_a_step(software: SoftwareCuda) -> None:
    """The driver's context belongs to a thread, and an engine's steps run in one of its own."""
    model, found = software_executor(software, "llama"), []
    feed = Sequences(model)  # type: ignore[arg-type]
    first = feed.step({0: [5, 6, 7]})[0]
    thread = threading.Thread(target=lambda: found.append(feed.step({1: [5, 6, 7]})[1]))
    thread.start()
    thread.join()
    np.testing.assert_array_equal(found[0], first)
    closing = threading.Thread(target=model.close)
    closing.start()
    closing.join()
    assert software.held() == 0


def test_copied_blocks_hold_all_layers(software: SoftwareCuda) -> None:
    model = software_executor(software, "llama")
    feed = Sequences(model)  # type: ignore[arg-type]
    text = golden("llama").prompt[:16]
    feed.step({0: text})
    expected = feed.step({0: [9]})[0]
    other = Sequences(model, 5)  # type: ignore[arg-type]
    other.step({0: text[::-1]})
    source, target = feed._tables[0][0], other._tables[0][0]
    assert source != target
    model.copy_block(source, target)
    model.copy_block(target, target)
    np.testing.assert_array_equal(other.step({0: [9]})[0], expected)
    model.close()


def test_the_device_says_what_is_free(software: SoftwareCuda) -> None:
    software.set(memory=600_000)
    with pytest.raises(UnsupportedError, match=r"weights|does not fit|would fit"):
        software_executor(software, "llama")
    assert software.held() == 0


def test_what_does_not_work_is_told_and_given_back(
    software: SoftwareCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = program("llama", "fp32", ("cuda-fp32",))
    software.use(PROGRAMS / "scale" / "cuda-fp32")
    with pytest.raises(
        UnsupportedError, match=r"refuses the kernel embed: .*no kernel in this text .*INVALID_PTX"
    ):
        open_program(folder, "llama", "Software")
    assert software.held() == 0
    software.use(folder / "cuda-fp32")
    real = cuda_driver.CudaDevice.free_bytes

    def shrunk(device: cuda_driver.CudaDevice) -> int:
        free = real(device)
        software.set(memory=300_000)
        return free

    monkeypatch.setattr(cuda_driver.CudaDevice, "free_bytes", shrunk)
    with pytest.raises(UnsupportedError, match=r"has no room for the buffer .* CUDA_ERROR_OUT_OF_MEMORY"):
        open_program(folder, "llama", "Software")
    assert software.held() == 0


def test_a_lost_device_is_told_with_likely_causes(software: SoftwareCuda) -> None:
    model = software_executor(software, "llama")
    feed = Sequences(model)  # type: ignore[arg-type]
    feed.step({0: [5, 6, 7]})
    software.lose()
    with pytest.raises(
        ExecutorError, match=r"stopped during a step .*ILLEGAL_ADDRESS.*Open the bundle again"
    ):
        feed.step({0: [5]})
    model.close()
    with pytest.raises(ExecutorError, match="has been closed"):
        feed.step({0: [5]})


def test_the_adapter(software: SoftwareCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters.memory, "run", lambda *_: "Software of the tests, 1000, 700\n")
    [found] = [one for one in list_adapters(cuda=True) if one.through == "cuda"]
    assert str(found) == "Software of the tests (CUDA, driver for 12.4, compute capability 8.0)"
    assert (found.kind, fitting_target(found), found.fp16) == ("discrete", "nvidia-gpu --kernels cuda", True)
    assert (found.memory, found.free, found.handle.free_bytes()) == (1 << 30, 700 << 20, 1 << 30)
    assert found.number == len(list_adapters()), "other adapters keep their numbers"
    assert found.limits.threads == 1024 and found.limits.shared_bytes == 49152
    pascal = dataclasses.replace(found.handle, capability=(6, 1))
    monkeypatch.setattr(cuda_driver, "devices", lambda: [pascal])
    assert not cuda_adapters()[0].fp16, "these compute with 16-bit floats at a small part of their speed"


def test_no_device_is_one_clear_line(software: SoftwareCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = program("llama", "fp32", ("cuda-fp32",))
    software.set(capability=5)
    with pytest.raises(UnsupportedError, match=r"no CUDA device was found: .* under 6\.0\. .*version 450"):
        open_program(folder, "llama", "Software")
    monkeypatch.setattr(cuda_driver, "LIBRARY", "libcuda-that-is-not-there.so.1")
    cuda_driver.driver.cache_clear()
    with pytest.raises(UnsupportedError, match=r"driver is not installed here \(libcuda-that.*version 450"):
        open_program(folder, "llama", "Software")
    assert [one for one in list_adapters(cuda=True) if one.through == "cuda"] == []


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model with CUDA kernels."""
    require(module="tvm", reason="it compiles the programs: pip install 'edgellm[tvm]'")
    out = tmp_path_factory.mktemp("bundles") / "demo"
    return edgellm.build("demo", target="nvidia-gpu", kernels="cuda", out=out).path


@pytest.mark.parametrize("arithmetic", ["fp32", "fp16"])
def test_the_engine(
    arithmetic: str, demo: Path, software: SoftwareCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGELLM_PROGRAM", f"cuda-{arithmetic}")
    software.use(demo / "tvm" / f"cuda-{arithmetic}")
    with Engine(demo, context=128, max_batch=2) as engine:
        assert engine.memory is not None and engine.memory.available == 1 << 30
        assert isinstance(engine.executor, PlanExecutor) and isinstance(engine.executor.host, CudaHost)
        host = engine.executor.host
        found = engine.generate(["What is a bundle?", "Hello!"], temperature=0.0, max_tokens=9)
        assert found[0].text.startswith("A bundle is the folder that `edgellm") and found[1].text
        assert host.submitted > 0 and host.waited > 0
    assert software.held() == 0


def test_without_a_gpu_the_command_line_says_so(demo: Path, tmp_path: Path) -> None:
    """TVM is not loaded for that, nor for anything else at run time."""
    code = (
        "import sys; from edgellm import cuda_driver; cuda_driver.LIBRARY = 'libcuda-not-there.so.1'\n"
        "sys.modules['tvm'] = None\n"
        "from edgellm.cli.group import run; sys.exit(run(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "generate", str(demo), "--prompt", "Hello!"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert re.match(r"error: no CUDA device was found: NVIDIA's driver is not installed", done.stderr)


def test_a_bundle_is_whole_and_the_same_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = checkpoint("llama")
    one = edgellm.build(folder, "nvidia-gpu", kernels="cuda", quant="int8")
    assert one.path.name.endswith("-nvidia-gpu-int8-cuda") and verify(one) == []
    two = edgellm.build(folder, "nvidia-gpu", kernels="cuda", quant="int8", out=tmp_path / "two")
    files = [sorted(path for path in made.path.rglob("*") if path.is_file()) for made in (one, two)]
    assert {path.suffix for path in files[0]} >= {".cu", ".ptx"}
    for first, second in zip(*files, strict=True):
        assert first.relative_to(one) == second.relative_to(two)
        assert first.read_bytes() == second.read_bytes(), first.name
        assert str(tmp_path).encode() not in first.read_bytes()


def test_what_compiles_the_kernels_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"package ziglang: pip install 'edgellm\[tvm\]'"):
        edgellm.build(checkpoint("llama"), "nvidia-gpu", kernels="cuda", out=tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", names())
def test_conformance_on_a_gpu(name: str, card: Adapter) -> None:
    conformance(name, card)


@pytest.mark.parametrize("arithmetic", ["fp32", "fp16"])
@pytest.mark.parametrize(
    "name", ["llama-biases", "mistral-sliding", "qwen2", "qwen3", "gemma3", "phi3-longrope"]
)
def test_logits_on_a_gpu(name: str, arithmetic: str, card: Adapter) -> None:
    model = open_program(program(name, "fp32", (f"cuda-{arithmetic}",)), name, card.name)
    check_logits(model, name, arithmetic)
    model.close()


def test_the_bandwidth_of_a_gpu(card: Adapter) -> None:
    size = 3 * 4096 * 16 + 5 * 16
    host = device_copy.open_copy(card, size, 1)
    found = host.run({}, {"n": 1}, {"x": size // 4, "y": size // 4})
    host.close()
    assert found["y"].view(np.uint32).any()
    np.testing.assert_array_equal(found["x"].view(np.uint32), found["y"].view(np.uint32))
    assert 10 < device_copy.copy_bandwidth(card) < 20_000


def test_the_engine_on_a_gpu(card: Adapter, demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests in one batch get what they get alone."""
    monkeypatch.setenv("EDGELLM_PROGRAM", "cuda-fp32")
    with Engine(demo) as engine:
        questions = ["What is a bundle?", "What is 2 + 3?", "Hello!", "How do I build for a phone?"]
        prompts = [engine.encode_prompt(one) for one in questions]
        greedy = engine.params(temperature=0.0, max_tokens=60)
        alone = [engine.submit(one, greedy).result() for one in prompts]
        assert "bundle" in alone[0].text.lower() and "5" in alone[1].text
        together = [one.result() for one in engine.submit_many(prompts, [greedy] * len(prompts))]
        for prompt, one, other in zip(prompts, alone, together, strict=True):
            assert_same(engine.executor, prompt, one.token_ids, other.token_ids)

"""Fixtures that tests of several folders share: a small checkpoint, and bundles really built."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import edgellm
from tests.make_checkpoints import make_checkpoint
from tests.support import require

# An executor loads TVM without its compiler, for good, and tests of the compiler come in the same process: so
# all of it is loaded first. That executors need no compiler is tested in processes of their own.
with suppress(ImportError):
    import tvm  # noqa: F401

# How fast a machine is, and what else runs on it, decides no test.
settings.register_profile("edgellm", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("edgellm")

# Shells start background jobs with Ctrl-C ignored, and every program that a test starts would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _one_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compiled libraries are shared by all tests of a run, and by runs that name a directory."""
    with pytest.MonkeyPatch.context() as patch:
        if "EDGELLM_CACHE" not in os.environ:
            patch.setenv("EDGELLM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def checkpoint_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A llama checkpoint with random weights, a tokenizer and a chat template. Not to be changed."""
    return make_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny-llama", "llama")


@pytest.fixture(scope="session")
def bundle_dir(checkpoint_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The int8 CTranslate2 bundle of `checkpoint_dir` for this machine. Not to be changed."""
    out = tmp_path_factory.mktemp("bundles") / "tiny-llama"
    return edgellm.build(checkpoint_dir, backend="ctranslate2", out=out).path


@pytest.fixture(scope="session")
def demo_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model, built with CTranslate2 for this machine once per test run."""
    return edgellm.build("demo", backend="ctranslate2", out=tmp_path_factory.mktemp("bundles") / "demo").path


@pytest.fixture(scope="session")
def demo_int4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model in int4 for TVM, which runs step by step."""
    for module in ("tvm", "ziglang"):
        require(module=module, reason="it compiles and runs the model: pip install 'edgellm[tvm]'")
    out = tmp_path_factory.mktemp("bundles") / "demo-int4"
    return edgellm.build("demo", backend="tvm", quant="int4", out=out).path


@pytest.fixture(scope="session")
def demo_gpu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model in int4 for GPUs: programs for wgpu and OpenCL, in fp16 and in fp32."""
    require(module="tvm", reason="it compiles the programs: pip install 'edgellm[tvm]'")
    out = tmp_path_factory.mktemp("bundles") / "demo-gpu"
    return edgellm.build("demo", target="intel-gpu", quant="int4", out=out).path


@pytest.fixture(scope="session")
def demo_adreno(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model for Adreno GPUs in phones."""
    require(module="tvm", reason="it compiles the programs: pip install 'edgellm[tvm]'")
    out = tmp_path_factory.mktemp("bundles") / "demo-adreno"
    return edgellm.build("demo", target="adreno", out=out).path

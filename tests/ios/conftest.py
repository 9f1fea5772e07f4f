"""What the tests of iOS share, built once."""

from __future__ import annotations

from pathlib import Path

import pytest

import edgellm
from tests.ios import software
from tests.support import require


@pytest.fixture(scope="session")
def metal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the core's programs over the software Metal."""
    return software.build(tmp_path_factory.mktemp("metal"))


@pytest.fixture(scope="session")
def demo_phone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model in int4 for iPhones."""
    require(module="tvm", reason="it compiles the programs: pip install 'edgellm[tvm]'")
    out = tmp_path_factory.mktemp("bundles") / "demo-iphone"
    return edgellm.build("demo", target="apple-iphone", quant="int4", out=out).path


@pytest.fixture(scope="session")
def demo_kernels(demo_phone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its kernels with 16-bit floats, compiled for the software Metal."""
    out = tmp_path_factory.mktemp("kernels") / "fp16"
    return software.compile_program(demo_phone / "tvm" / "metal-fp16", out)

"""The compiler half needs TVM."""

from __future__ import annotations

import pytest

from tests.support import require


@pytest.fixture(autouse=True)
def needs_tvm() -> None:
    require(module="tvm", reason="compiles kernels: pip install 'edgellm[tvm]'")

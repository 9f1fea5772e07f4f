"""The backend's tests need TVM and a linker."""

from __future__ import annotations

import pytest

from tests.support import require


@pytest.fixture(autouse=True)
def _needs_tvm() -> None:
    for module in ("tvm", "ziglang"):
        require(module=module, reason="it compiles and runs the models: pip install 'edgellm[tvm]'")

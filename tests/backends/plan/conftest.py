"""These tests build programs, which needs TVM, and run them on whatever wgpu and OpenCL find."""

from __future__ import annotations

import pytest

from tests.support import require


@pytest.fixture(autouse=True)
def _needs_tvm(monkeypatch: pytest.MonkeyPatch) -> None:
    require(module="tvm", reason="it compiles the programs: pip install 'edgellm[tvm]'")
    monkeypatch.delenv("EDGELLM_PROGRAM", raising=False)
    monkeypatch.delenv("EDGELLM_ADAPTER", raising=False)

"""Plans are read and checked without TVM."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def needs_tvm() -> None:
    """In place of the requirement of the folder above."""

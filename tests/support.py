"""Helpers shared by the tests."""

from __future__ import annotations

import importlib.util
import os
import shutil

import pytest


def require(*, module: str | None = None, program: str | None = None, reason: str) -> None:
    """Skip the test when an optional part is missing on a user's machine; fail under CI=true.

    Args:
        module: an importable Python package. program: a command on PATH.
        reason: what the part is needed for and how to install it.
    """
    missing = (module is not None and importlib.util.find_spec(module) is None) or (
        program is not None and shutil.which(program) is None
    )
    if not missing:
        return
    message = f"{module or program} is missing: {reason}"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)

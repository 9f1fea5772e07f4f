"""Lint, types and tests of `webgpu/`: npm runs them, this makes them part of the whole."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import npm_packages, require

FOLDER = Path(__file__).parents[2] / "webgpu"
_PATIENCE_S = 900


@pytest.fixture(scope="module")
def installed() -> None:
    """What package-lock.json names is in node_modules."""
    npm_packages()


def npm(*arguments: str) -> None:
    """Run npm, and show what it said if it fails."""
    environment = os.environ | {"EDGELLM_PYTHON": sys.executable}
    done = subprocess.run(
        ["npm", *arguments], cwd=FOLDER, env=environment, capture_output=True, text=True, timeout=_PATIENCE_S,
        check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.fail(f"npm {' '.join(arguments)} failed:\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}")


@pytest.mark.usefixtures("installed")
def test_lint_and_types() -> None:
    npm("run", "check")


@pytest.mark.usefixtures("installed")
def test_parts_that_need_no_browser() -> None:
    npm("test")


@pytest.mark.usefixtures("installed")
@pytest.mark.timeout(_PATIENCE_S)
def test_in_a_browser() -> None:
    """Conformance, answers beside the Python host's, storage and its failures; and the package's size."""
    browser = os.environ.get("EDGELLM_CHROMIUM", shutil.which("chromium") or "chromium")
    require(program=browser, reason="the package is tested in it: apt-get install chromium")
    require(module="wgpu", reason="answers are compared with those of Python's host: pip install wgpu")
    require(module="tvm", reason="it builds the bundle that is run: pip install 'edgellm[tvm]'")
    npm("run", "test:browser")

"""Helpers shared by the tests."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

WEBGPU = Path(__file__).parents[1] / "webgpu"
_NPM_PATIENCE_S = 240


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


def npm_packages(folder: Path = WEBGPU) -> None:
    """Bring what a folder's `package-lock.json` names into node_modules, once, whichever test is first.

    Test files run at the same time: one installs, the others wait.
    """
    require(program="npm", reason="it brings packages for tests: install Node 20.19 or newer")
    done = folder / "node_modules/.package-lock.json"
    lock = folder / ".npm-ci.lock"
    deadline = time.monotonic() + _NPM_PATIENCE_S
    while True:
        try:
            lock.touch(exist_ok=False)
            break
        except FileExistsError:
            if time.monotonic() > deadline:
                lock.unlink(missing_ok=True)  # whoever held it has died
            time.sleep(0.2)
    try:
        if done.exists() and done.stat().st_mtime >= (folder / "package-lock.json").stat().st_mtime:
            return
        installed = subprocess.run(
            ["npm", "ci", "--no-audit", "--no-fund"], cwd=folder, capture_output=True, text=True,
            timeout=_NPM_PATIENCE_S, check=False,
        )  # fmt: skip
        if installed.returncode:
            pytest.fail(f"npm ci failed:\n{installed.stdout[-3000:]}\n{installed.stderr[-3000:]}")
    finally:
        lock.unlink(missing_ok=True)

"""Build hook of the wheel: makes the chat page from `webgpu/`, where npm is there to do it.

Nobody needs npm to install edgellm: without it, or where it fails, the wheel has no page and says so. With
EDGELLM_PAGE=require that is an error (for wheels that are published); with EDGELLM_PAGE=skip it is not tried.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_PATIENCE_S = 600


class PageHook(BuildHookInterface):  # type: ignore[type-arg]
    """Puts the built page into the wheel as edgellm/data/page."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        wish = os.environ.get("EDGELLM_PAGE", "")
        if version == "editable" or wish == "skip":
            return
        out = Path(self.root) / "webgpu" / "dist-page"
        problem = _build(Path(self.root) / "webgpu", out)
        if problem is None:
            build_data["force_include"][str(out)] = "edgellm/data/page"
        elif wish == "require":
            raise RuntimeError(f"the chat page cannot be built: {problem}")
        else:
            self.app.display_warning(f"this wheel has no chat page for edgellm package web: {problem}")


def _build(sources: Path, out: Path) -> str | None:
    """Build the page; returns what went wrong."""
    npm = shutil.which("npm")
    if npm is None:
        return "npm is not installed (Node 20.19 or newer)"
    steps = [["run", "--silent", "build:page", "--", "--outDir", str(out), "--logLevel", "error"]]
    if not (sources / "node_modules" / "vite").is_dir():
        steps.insert(0, ["ci"])
    for step in steps:
        # Packages for building are left out by npm where NODE_ENV says production.
        environment = os.environ | {"NODE_ENV": "development" if step == ["ci"] else "production"}
        try:
            done = subprocess.run(
                [npm, *step], cwd=sources, env=environment, capture_output=True, text=True,
                timeout=_PATIENCE_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"npm {step[0]} took more than {_PATIENCE_S} s"
        if done.returncode:
            return f"npm {step[0]} failed: {(done.stderr or done.stdout).strip()[-400:]}"
    return None if (out / "index.html").is_file() else "npm wrote no index.html"

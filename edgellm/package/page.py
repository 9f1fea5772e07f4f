"""Where the built chat page is: in an installed wheel, or made from the sources of a checkout and kept."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from edgellm.bundle.place import new_name, remove_tree
from edgellm.errors import EdgeLLMError, MissingDependencyError
from edgellm.resources import cache_dir, data_dir

ENTRY = "index.html"
_SOURCES = ("src", "page")
_SETTINGS = ("package.json", "package-lock.json", "tsconfig.json", "vite.page.config.ts")
# The colours, which the server's page has too (page/src/page.css imports them).
_THEME = Path("edgellm/server/static/theme.css")
_PATIENCE_S = 300


def built_page() -> Path:
    """The folder of the built page: `index.html`, `sw.js`, and what they need.

    Raises:
        MissingDependencyError: it has to be built and npm, or what the page is built with, is not there.
        EdgeLLMError: building it failed.
    """
    shipped = data_dir("page")
    if (shipped / ENTRY).is_file():
        return shipped
    sources = data_dir("webgpu")
    if not (sources / "page" / ENTRY).is_file():
        raise MissingDependencyError(
            "this installation of edgellm has no chat page: it was installed where npm was missing. Install "
            "Node 20.19 or newer, then edgellm again"
        )
    built = cache_dir("page") / _key(sources)
    if not (built / ENTRY).is_file():
        _build(sources, built)
    return built


def _build(sources: Path, out: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise MissingDependencyError(
            "building the chat page needs npm, which is not installed: install Node 20.19 or newer"
        )
    if not (sources / "node_modules" / "vite").is_dir():
        raise MissingDependencyError(
            f"building the chat page needs its packages, once: run npm ci in {sources}, then this again"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = new_name(out)
    try:
        done = subprocess.run(
            [npm, "run", "--silent", "build:page", "--", "--outDir", str(temporary), "--logLevel", "error"],
            cwd=sources, env=os.environ | {"NODE_ENV": "production"}, capture_output=True, text=True,
            timeout=_PATIENCE_S, check=False,
        )  # fmt: skip
        if done.returncode or not (temporary / ENTRY).is_file():
            said = (done.stderr or done.stdout).strip() or f"exit status {done.returncode}"
            raise EdgeLLMError(f"the chat page cannot be built from {sources}: {said[-600:]}")
        try:
            temporary.rename(out)
        except OSError:
            if not (out / ENTRY).is_file():  # else another process built the same meanwhile
                raise
    except subprocess.TimeoutExpired:
        raise EdgeLLMError(f"building the chat page took more than {_PATIENCE_S} s; try again") from None
    finally:
        remove_tree(temporary)


def _key(sources: Path) -> str:
    """Hash of all that the built page depends on."""
    digest = hashlib.sha256()
    for file in _files(sources):
        data = file.read_bytes()
        digest.update(f"{file.relative_to(sources.parent).as_posix()}\0{len(data)}\0".encode())
        digest.update(data)
    return digest.hexdigest()[:32]


def _files(sources: Path) -> Iterator[Path]:
    yield from (sources / name for name in _SETTINGS)
    yield sources.parent / _THEME
    for folder in _SOURCES:
        for parent, folders, names in os.walk(sources / folder):
            folders.sort()
            yield from (Path(parent) / name for name in sorted(names))

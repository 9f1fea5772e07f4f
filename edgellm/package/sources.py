"""The sources of apps that ship with edgellm."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path


def is_made(name: str, made: Collection[str]) -> bool:
    """Whether a file or folder of this name is among `made`, whose entries are names or `*` and an ending."""
    return name in made or any(one.startswith("*") and name.endswith(one[1:]) for one in made)


def read_sources(root: Path, names: Iterable[str], made: Collection[str]) -> dict[str, bytes]:
    """Contents of the files and folders `names` of `root`, without what is in `made`, by path from `root`."""
    found: dict[str, bytes] = {}
    for name in names:
        if (root / name).is_file():
            found[name] = (root / name).read_bytes()
        for parent, folders, files in os.walk(root / name):
            folders[:] = sorted(folder for folder in folders if not is_made(folder, made))
            for file in sorted(files):
                path = Path(parent) / file
                if not is_made(file, made):
                    found[path.relative_to(root).as_posix()] = path.read_bytes()
    return found

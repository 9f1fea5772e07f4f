"""Which relative paths a manifest may name, and finding those files without leaving the bundle."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

from edgellm.bundle.manifest import MANIFEST_NAME

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")
# Names that Windows takes for devices, with or without an extension.
_DEVICES = frozenset(
    ["con", "prn", "aux", "nul", *(f"com{i}" for i in range(10)), *(f"lpt{i}" for i in range(10))]
)


def path_problem(path: str) -> str | None:
    """Why `path` may not stand in a manifest; None if it may.

    Allowed are relative paths with forward slashes that mean the same file on every system a bundle is
    copied to: ASCII, no empty, `.` or `..` part, no leading or trailing dot, no device name of Windows.
    """
    if path.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", path):
        return "is not relative"
    for part in path.split("/"):
        if part in ("", ".", ".."):
            return "leaves the bundle or has an empty part"
        if not _PART.fullmatch(part) or part.endswith("."):
            return "has a character that a bundle's paths may not have, or a dot at an end"
        if part.split(".")[0].lower() in _DEVICES:
            return "is a device name on Windows"
    if path.lower() == MANIFEST_NAME:
        return "is the manifest itself"
    return None


def paths_problem(paths: Iterable[str]) -> str | None:
    """Why these paths cannot be the files of one bundle: one may not stand there, two are the same file
    where case does not count, or one is another's folder."""
    seen: dict[str, str] = {}
    ordered = list(paths)
    for path in ordered:
        if reason := path_problem(path):
            return f"path {path!r} {reason}"
        if other := seen.get(path.lower()):
            return f"paths {other!r} and {path!r} are the same file where case does not count"
        seen[path.lower()] = path
    for path in ordered:
        parts = path.lower().split("/")
        for depth in range(1, len(parts)):
            if other := seen.get("/".join(parts[:depth])):
                return f"path {other!r} is a file and also the folder of {path!r}"
    return None


def plain_file(root: Path, path: str) -> os.stat_result | str:
    """`lstat` of the regular file `path` below `root`, or what is wrong: missing, a link, not a file.

    Every folder on the way is looked at too, so that no symbolic link can lead out of `root`.
    """
    parts = path.split("/")
    here = root
    for index, part in enumerate(parts):
        here = here / part
        try:
            status = here.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return "is missing"
        except OSError as error:
            return f"cannot be read ({error.strerror})"
        if stat.S_ISLNK(status.st_mode):
            return "is a symbolic link or lies behind one; a bundle has none"
        wanted = stat.S_ISREG if index == len(parts) - 1 else stat.S_ISDIR
        if not wanted(status.st_mode):
            return "is missing" if index < len(parts) - 1 else "is not a regular file"
    return status

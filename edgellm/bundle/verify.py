"""Checking a bundle against its manifest: every byte of every file, and nothing beside them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from edgellm.bundle.codec import read_manifest
from edgellm.bundle.manifest import MANIFEST_NAME, FileEntry
from edgellm.bundle.paths import plain_file
from edgellm.errors import BundleError

_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_CHUNK_BYTES = 1 << 20
HASH_THREADS = 4
"""hashlib releases the interpreter lock while it works, so threads use several cores."""


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong: `file` relative to the bundle, `problem` a phrase that continues its name."""

    file: str
    problem: str


def verify(path: str | os.PathLike[str]) -> list[Problem]:
    """Everything that differs between the bundle at `path` and its manifest, sorted by file; [] if nothing.

    Found are missing, resized and changed files, symbolic links, files and folders the manifest does not
    list, and any change to the manifest itself (its checksum covers each of its bytes).
    """
    directory = Path(path).resolve()
    try:
        manifest = read_manifest(directory)
    except BundleError as error:
        return [Problem(MANIFEST_NAME, str(error))]
    listed = {entry.path for entry in manifest.files}
    folders = {str(parent) for name in listed for parent in Path(name).parents}
    problems = [
        Problem(name, "is not listed in the manifest")
        for name in _entries(directory)
        if name not in listed and name not in folders and name != MANIFEST_NAME
    ]
    with ThreadPoolExecutor(min(HASH_THREADS, os.cpu_count() or 1)) as pool:
        found = pool.map(lambda entry: check_file(directory, entry), manifest.files)
        problems += [problem for problem in found if problem is not None]
    return sorted(problems, key=lambda problem: problem.file)


def hash_file(path: Path, *, sync: bool = False) -> tuple[int, str]:
    """(bytes, SHA-256 as lower-case hex) of a regular file; links are not followed. Memory use is constant.

    Args:
        sync: also wait until the file's bytes are on the disk.
    """
    digest = hashlib.sha256()
    chunk = bytearray(_CHUNK_BYTES)
    descriptor = os.open(path, (os.O_RDWR if sync else os.O_RDONLY) | _NO_FOLLOW)
    with os.fdopen(descriptor, "r+b" if sync else "rb", 0) as stream:
        size = 0
        while count := stream.readinto(chunk):
            digest.update(memoryview(chunk)[:count])
            size += count
        if sync:
            os.fsync(descriptor)
        return size, digest.hexdigest()


def check_file(directory: Path, entry: FileEntry, *, hash_up_to: int | None = None) -> Problem | None:
    """What is wrong with one listed file; None if nothing.

    Args:
        hash_up_to: hash it only if it has at most so many bytes; None = always.
    """
    status = plain_file(directory, entry.path)
    if isinstance(status, str):
        return Problem(entry.path, status)
    if status.st_size != entry.bytes:
        return Problem(entry.path, f"has {status.st_size:,} bytes instead of {entry.bytes:,}")
    if hash_up_to is not None and entry.bytes > hash_up_to:
        return None
    try:
        _, sha256 = hash_file(directory / entry.path)
    except OSError as error:
        return Problem(entry.path, f"cannot be read ({error.strerror})")
    return None if sha256 == entry.sha256 else Problem(entry.path, "has different contents (SHA-256)")


def _entries(directory: Path, prefix: str = "") -> Iterator[str]:
    """Relative paths of everything below `directory`, folders included, links not followed."""
    try:
        found = sorted(os.scandir(directory / prefix), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in found:
        name = f"{prefix}{entry.name}"
        yield name
        if entry.is_dir(follow_symlinks=False):
            yield from _entries(directory, f"{name}/")

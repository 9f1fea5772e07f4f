"""The place of a bundle on disk: its hidden temporaries, who builds there now, and swapping it in.

Temporaries of a bundle NAME stand beside it: `.NAME.building-PID-RANDOM` while a build writes, and
`.NAME.replaced-PID-RANDOM` for the old bundle where a system cannot exchange two directories at once.
A builder holds a lock (flock) on its temporary, so that a dead builder's can be told from a living one's.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from edgellm.bundle.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, TEMPLATE_NAME, TOKENIZER_NAME
from edgellm.errors import BundleError

try:
    import fcntl
except ImportError:  # Windows: temporaries of dead builders stay until somebody removes them
    fcntl = None  # type: ignore[assignment]

_OWN_FILES = re.compile(
    rf"{MANIFEST_NAME}|{TOKENIZER_NAME}|{TEMPLATE_NAME}|(LICEN[SC]E|NOTICE)[A-Za-z0-9._-]*"
)
_OWN_FOLDERS = ("ctranslate2",)
_LOCK_PATIENCE_S = 5.0


class _Listing(msgspec.Struct):
    path: str


class _Loose(msgspec.Struct):
    """What can be read of a manifest of any version."""

    files: list[_Listing] = []


def new_name(out: Path, kind: str = "building") -> Path:
    """A fresh name for a temporary of `out`, beside it."""
    return out.with_name(f".{out.name}.{kind}-{os.getpid()}-{secrets.token_hex(4)}")


def remove_tree(path: Path) -> None:
    """Remove a temporary, as far as that is possible; an interrupt does not leave it half-removed."""
    interrupted = False
    for _ in range(10):
        try:
            if path.is_dir():
                shutil.rmtree(path)
            break
        except KeyboardInterrupt:
            interrupted = True
        except FileNotFoundError:
            continue  # somebody else removes it too
        except OSError:
            break
    if interrupted:
        raise KeyboardInterrupt


def create_temporary(out: Path, temporary: Path) -> int | None:
    """Make and lock the directory `temporary` for `out`, after removing those of dead builders.

    Returns:
        The descriptor that holds its lock; None where the system has no such locks.

    Raises:
        BundleError: another process is building `out` now.
        OSError: the directory cannot be made.
    """
    descriptor: int | None = None
    try:
        with _locked(out.parent):
            _clear_stale(out)
            temporary.mkdir()
            descriptor = _lock(temporary)
    except BaseException:
        if descriptor is not None:
            os.close(descriptor)
        remove_tree(temporary)
        raise
    return descriptor


def foreign_files(directory: Path) -> list[str]:
    """Names directly in `directory` that do not belong to a bundle, sorted; [] if it may be replaced.

    A bundle's own are the files that its manifest lists, and where the manifest cannot be read, the names
    that edgellm uses. A directory without a manifest owns nothing.
    """
    names = sorted(entry.name for entry in os.scandir(directory))
    if MANIFEST_NAME not in names:
        return names
    loose = _Loose()
    with (
        contextlib.suppress(OSError, msgspec.DecodeError, RecursionError),
        (directory / MANIFEST_NAME).open("rb") as stream,
    ):
        loose = msgspec.json.decode(stream.read(MAX_MANIFEST_BYTES), type=_Loose)
    listed = {entry.path for entry in loose.files}
    folders = {str(parent) for path in listed for parent in Path(path).parents}
    foreign = []
    for name in names:
        entry = directory / name
        if entry.is_symlink():
            foreign.append(name)
        elif entry.is_dir():
            if not listed and name in _OWN_FOLDERS:
                continue
            foreign += _unlisted(directory, name, listed, folders)
        elif name not in listed and not _OWN_FILES.fullmatch(name):
            foreign.append(name)
    return foreign


def exchange(one: Path, other: Path) -> bool:
    """Swap two directories in one atomic step (renameat2 on Linux, renamex_np on macOS).

    Returns:
        False, with nothing done, where the system or the file system cannot.
    """
    library: Any = ctypes.CDLL(None, use_errno=True) if os.name == "posix" else None
    first, second = os.fsencode(one), os.fsencode(other)
    if sys.platform.startswith("linux") and hasattr(library, "renameat2"):
        at_cwd, rename_exchange = -100, 2
        status = library.renameat2(at_cwd, first, at_cwd, second, rename_exchange)
    elif sys.platform == "darwin" and hasattr(library, "renamex_np"):
        rename_swap = 2
        status = library.renamex_np(first, second, rename_swap)
    else:
        return False
    if status == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(other))


def sync_directory(path: Path) -> None:
    """Wait until the names in a directory are on the disk (a no-op where directories cannot be synced)."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def _unlisted(directory: Path, folder: str, listed: set[str], folders: set[str]) -> Iterator[str]:
    if folder not in folders:
        yield folder
        return
    for entry in sorted(os.scandir(directory / folder), key=lambda entry: entry.name):
        name = f"{folder}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            yield from _unlisted(directory, name, listed, folders)
        elif name not in listed:
            yield name


def _clear_stale(out: Path) -> None:
    """Remove what dead builders of `out` left. Called with the parent directory locked."""
    pattern = re.compile(rf"\.{re.escape(out.name)}\.(building|replaced)-([0-9]+)-[0-9a-f]{{8}}")
    found = [(entry, match) for entry in out.parent.iterdir() if (match := pattern.fullmatch(entry.name))]
    stale = []
    for entry, match in found:
        if entry.is_symlink() or not entry.is_dir():
            continue
        try:
            descriptor = _lock(entry)
        except (FileNotFoundError, PermissionError):
            continue
        except BlockingIOError:
            raise BundleError(
                f"another build (process {match[2]}) is writing {out}: wait for it, or choose another --out"
            ) from None
        if descriptor is not None:
            os.close(descriptor)
            stale.append((entry, match[1]))
    for entry, kind in stale:
        if kind == "replaced" and not out.exists():
            entry.rename(out)  # its builder died between moving the old bundle away and the new one in
        else:
            remove_tree(entry)


def _lock(path: Path) -> int | None:
    """Lock a directory. BlockingIOError: somebody holds it. None: no such locks on this file system."""
    if fcntl is None:
        return None
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold the lock on `directory` while temporaries in it are looked at and made.

    Somebody else may hold it for reasons of their own: after a few seconds this goes on without.
    """
    descriptor = None
    deadline = time.monotonic() + _LOCK_PATIENCE_S
    while time.monotonic() < deadline:
        try:
            descriptor = _lock(directory)
            break
        except BlockingIOError:
            time.sleep(0.01)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)

"""Writing a directory that holds a bundle and more: it appears at its place when it is whole."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from edgellm.bundle.bundle import Bundle
from edgellm.bundle.manifest import FileEntry
from edgellm.bundle.place import create_temporary, exchange, new_name, remove_tree, sync_directory
from edgellm.errors import EdgeLLMError
from edgellm.units import bytes_text

_CHUNK_BYTES = 1 << 20

Report = Callable[[str, int, int], None]


def check_place(place: Path, bundle: Path) -> None:
    """Raise EdgeLLMError if `place` is around or in the bundle, or around the current directory."""
    if not place.name:
        raise EdgeLLMError(f"--out {place} is the root directory; name a new directory")
    if Path.cwd().is_relative_to(place) or bundle.is_relative_to(place):
        raise EdgeLLMError(
            f"--out {place} is, or contains, the current directory or the bundle; name a new directory"
        )
    if place.is_relative_to(bundle):
        raise EdgeLLMError(f"--out {place} lies in the bundle; name a directory elsewhere")


def write_folder(
    place: Path,
    what: str,
    bundle: Bundle,
    texts: Mapping[str, bytes],
    copied: Mapping[str, FileEntry],
    *,
    programs: Collection[str] = (),
    on_progress: Report | None = None,
) -> None:
    """Write `texts` and, by their new paths, files of the bundle; what stands at `place` is replaced.

    Args:
        what: it is, for errors: "the site".
        programs: those of `texts` that can be executed.
        on_progress: called with ("copy", bytes written, bytes in all).

    Raises:
        EdgeLLMError: the disk is full, or `place` cannot be written, or the bundle is damaged.
    """
    done = sum(len(data) for data in texts.values())
    total = done + sum(entry.bytes for entry in copied.values())
    temporary = new_name(place)
    lock: int | None = None
    parents = [folder for folder in place.parents if not folder.exists()]
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        if (free := shutil.disk_usage(place.parent).free) < total:
            raise EdgeLLMError(
                f"{what} takes {bytes_text(total)} and the disk of {place.parent} has "
                f"{bytes_text(free)} free: free some space or choose another --out"
            )
        lock = create_temporary(place, temporary)
        for path, data in texts.items():
            _put(temporary / path, data, executable=path in programs)
        for path, entry in copied.items():
            _copy(bundle.path / entry.path, entry, temporary / path)
            done += entry.bytes
            if on_progress:
                on_progress("copy", done, total)
        sync_directory(temporary)
        _install(temporary, place)
    except OSError as error:
        where = error.filename or place
        raise EdgeLLMError(f"cannot write {where}: {error.strerror}; choose another --out") from None
    finally:
        remove_tree(temporary)
        if lock is not None:
            os.close(lock)
        with contextlib.suppress(OSError):  # in use now
            for folder in parents:
                folder.rmdir()


def _put(file: Path, data: bytes, *, executable: bool) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("xb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    if executable:
        file.chmod(file.stat().st_mode | 0o111)


def _copy(source: Path, entry: FileEntry, to: Path) -> None:
    """Copy one file of the bundle, comparing what is copied with the manifest's hash."""
    to.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with source.open("rb") as stream, to.open("xb") as copy:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
            copy.write(chunk)
        copy.flush()
        os.fsync(copy.fileno())
    if digest.hexdigest() != entry.sha256:
        raise EdgeLLMError(f"{source} is damaged (its SHA-256 is another one); build the bundle again")


def _install(temporary: Path, place: Path) -> None:
    if place.exists() and any(place.iterdir()):
        if not exchange(temporary, place):
            old = new_name(place, "replaced")
            place.rename(old)
            temporary.rename(place)
            remove_tree(old)
    else:
        temporary.rename(place)
    sync_directory(place.parent)

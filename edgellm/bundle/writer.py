"""`BundleWriter`: a bundle directory either does not exist or is whole.

Files are written into a hidden directory beside the bundle's place, hashed, synced to the disk, and the
directory is renamed into place as the last step. Whatever ends a build before that (an error, Ctrl-C, a
full disk) removes the hidden directory; after a kill the next build of the same bundle removes it.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import msgspec

from edgellm.bundle.bundle import Bundle
from edgellm.bundle.codec import encode_manifest
from edgellm.bundle.manifest import MANIFEST_NAME, FileEntry, Manifest
from edgellm.bundle.paths import path_problem
from edgellm.bundle.place import (
    create_temporary,
    exchange,
    foreign_files,
    new_name,
    remove_tree,
    sync_directory,
)
from edgellm.bundle.verify import HASH_THREADS, hash_file
from edgellm.errors import BundleError
from edgellm.units import bytes_text

_FULL = (errno.ENOSPC, errno.EDQUOT)


def checked_out(out: str | os.PathLike[str], *, force: bool = False) -> Path:
    """The absolute place of a new bundle, after checking that one may be put there.

    Free is a name that does not exist, or an empty directory. With `force` also a bundle, if nothing but a
    bundle's own files is in it.

    Raises:
        BundleError: says what stands there and what to do.
    """
    place = Path(out).expanduser().resolve()
    if not place.name:
        raise BundleError(f"--out {out} is the root directory; name a new directory")
    if Path.cwd().is_relative_to(place):
        raise BundleError(f"--out {out} is, or contains, the current directory; name a new directory")
    if not place.exists():
        return place
    if not place.is_dir():
        raise BundleError(f"{place} exists and is a file; choose another --out")
    try:
        if not any(place.iterdir()):
            return place
        foreign = foreign_files(place)
    except OSError as error:
        raise BundleError(f"{place} cannot be read: {error.strerror}; choose another --out") from None
    if not (place / MANIFEST_NAME).is_file():
        raise BundleError(f"{place} exists and is not a bundle; choose another --out")
    if not force:
        raise BundleError(f"{place} exists already; --force replaces it, or choose another --out")
    if foreign:
        more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        raise BundleError(
            f"{place} holds files that are not the bundle's ({foreign[0]}{more}), so --force does not "
            "replace it; move them away or choose another --out"
        )
    return place


class BundleWriter:
    """Writes one bundle; a context manager around the work, ended by `commit`.

    Attributes:
        out: where the bundle will stand.
        path: the hidden directory to write files into, until then.
    """

    def __init__(self, out: str | os.PathLike[str], *, force: bool = False, need_bytes: int = 0) -> None:
        """Prepare to write to `out`.

        Args:
            force: replace a bundle that stands there.
            need_bytes: what the bundle will take at least; refused at once if the disk has less.
        """
        self._asked = out
        self._force = force
        self._need = need_bytes
        self._lock: int | None = None
        self._made_parents: list[Path] = []
        self.out: Path
        self.path: Path

    def __enter__(self) -> BundleWriter:
        self.out = checked_out(self._asked, force=self._force)
        try:
            self._make_parents()
            free = shutil.disk_usage(self.out.parent).free
            if free < self._need:
                raise BundleError(
                    f"the bundle needs at least {bytes_text(self._need)} and the disk of {self.out.parent} "
                    f"has {bytes_text(free)} free: free some space or choose another --out"
                )
            self.path = new_name(self.out)
            self._lock = create_temporary(self.out, self.path)
        except OSError as error:
            self._release()
            raise BundleError(
                f"cannot write in {error.filename or self.out.parent}: {error.strerror}; choose another --out"
            ) from None
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            remove_tree(self.path)
        finally:
            self._release()
        if full := _disk_error(error):
            raise BundleError(self._full_message(full)) from error

    def folder(self, name: str) -> Path:
        """Make the folder `name` in the bundle; returns where to write its files."""
        folder = self.path / name
        folder.mkdir()
        return folder

    def add(self, name: str, data: bytes) -> None:
        """Write one small file."""
        if reason := path_problem(name):
            raise BundleError(f"a bundle cannot hold a file {name!r}: it {reason}")
        with (self.path / name).open("xb") as stream:
            stream.write(data)

    def commit(self, manifest: Manifest, progress: Callable[[int, int], None] | None = None) -> Bundle:
        """Hash and sync what was written, write the manifest, and put the bundle in its place.

        Args:
            manifest: everything but `files` and `checksum`, which are filled in here.
            progress: called with (bytes hashed, bytes in all).

        Raises:
            BundleError: something else stands at `out` by now, or the manifest would be unreadable.
        """
        entries = self._hash(progress or (lambda done, total: None))
        data = encode_manifest(msgspec.structs.replace(manifest, files=entries))
        with (self.path / MANIFEST_NAME).open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        for folder, _, _ in os.walk(self.path, topdown=False):
            sync_directory(Path(folder))
        self._install()
        return Bundle.open(self.out)

    def _hash(self, progress: Callable[[int, int], None]) -> tuple[FileEntry, ...]:
        files = sorted(
            (Path(folder) / name for folder, _, names in os.walk(self.path) for name in names),
            key=lambda file: file.relative_to(self.path).as_posix(),
        )
        total = sum(file.lstat().st_size for file in files)
        done = 0
        entries = []
        pool = ThreadPoolExecutor(min(HASH_THREADS, os.cpu_count() or 1))
        try:
            hashes = pool.map(lambda file: hash_file(file, sync=True), files)
            for file, (size, sha256) in zip(files, hashes, strict=True):
                entries.append(FileEntry(file.relative_to(self.path).as_posix(), size, sha256))
                done += size
                progress(done, total)
        finally:
            pool.shutdown(cancel_futures=True)
        return tuple(entries)

    def _install(self) -> None:
        try:
            if self._force and self.out.exists() and any(self.out.iterdir()):
                checked_out(self.out, force=True)  # somebody may have put files there during the build
                self._replace()
            else:
                self.path.rename(self.out)
        except (FileExistsError, NotADirectoryError):
            raise BundleError(self._taken()) from None
        except OSError as error:
            if error.errno == errno.ENOTEMPTY:
                raise BundleError(self._taken()) from None
            if _disk_error(error):
                raise
            raise BundleError(f"the bundle cannot be moved to {self.out}: {error.strerror}") from error
        sync_directory(self.out.parent)
        self._made_parents = []

    def _replace(self) -> None:
        if exchange(self.path, self.out):
            return  # what is at self.path now is the old bundle; __exit__ removes it
        old = new_name(self.out, "replaced")
        self.out.rename(old)
        try:
            self.path.rename(self.out)
        except BaseException:
            old.rename(self.out)
            raise
        remove_tree(old)

    def _taken(self) -> str:
        return (
            f"{self.out} was made by somebody else during this build, and was left as it is; build again "
            "with --force to replace it, or choose another --out"
        )

    def _make_parents(self) -> None:
        missing = [folder for folder in self.out.parents if not folder.exists()]
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
            self._made_parents.append(folder)

    def _release(self) -> None:
        """Give the lock back and remove parent directories that this writer made and did not use."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        for folder in reversed(self._made_parents):
            try:
                folder.rmdir()
            except OSError:
                break
        self._made_parents = []

    def _full_message(self, error: OSError) -> str:
        if error.errno == errno.EFBIG:
            return (
                f"a file of the bundle grew over the largest size allowed for {self.out.parent} (the file "
                "system's limit, or ulimit -f); nothing was kept"
            )
        need = f" (the bundle needs at least {bytes_text(self._need)})" if self._need else ""
        return (
            f"the disk of {self.out.parent} is full{need}; nothing was kept: free some space or choose "
            "another --out"
        )


def _disk_error(error: BaseException | None) -> OSError | None:
    """The error of a full disk or an exceeded file size in `error` or what caused it."""
    for _ in range(10):
        if isinstance(error, OSError) and error.errno in (*_FULL, errno.EFBIG):
            return error
        error = (error.__cause__ or error.__context__) if error is not None else None
    return None

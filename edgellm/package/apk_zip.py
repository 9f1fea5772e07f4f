"""Writing the ZIP file of an APK: stored entries lie where they can be mapped into memory."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

PAGE_BYTES = 16384
"""Libraries begin at a multiple of this: devices have pages of 4 or 16 KiB."""
WORD_BYTES = 4
_HEADER_BYTES = 30
_LENGTHS_AT = 26
# The extra field that names an entry's alignment; signers keep it (see zipalign and apksigner of Android).
_ALIGNMENT_FIELD = 0xD935
_EPOCH = (1980, 1, 1, 0, 0, 0)
_CHUNK_BYTES = 1 << 20


class ApkZip:
    """An APK being written. Nothing in it depends on the time or machine."""

    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path, "x", allowZip64=False)

    def close(self) -> None:
        """Write the list of entries."""
        self._zip.close()

    def add(self, name: str, data: bytes, *, stored: bool = False) -> None:
        """Add an entry, compressed unless `stored`."""
        with self._entry(name, len(data), stored) as entry:
            entry.write(data)

    def add_file(self, name: str, path: Path, *, stored: bool = False) -> None:
        """Add a file's bytes."""
        with self._entry(name, path.stat().st_size, stored) as entry, path.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                entry.write(chunk)

    def add_zip(self, path: Path) -> None:
        """Add all entries of another ZIP file, each compressed if it was."""
        with zipfile.ZipFile(path) as other:
            for info in other.infolist():
                stored = info.compress_type == zipfile.ZIP_STORED
                self.add(info.filename, other.read(info), stored=stored)

    @contextmanager
    def _entry(self, name: str, size: int, stored: bool) -> Iterator[BinaryIO]:
        info = zipfile.ZipInfo(name, _EPOCH)
        info.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
        info.create_system = 3
        info.external_attr = 0o100644 << 16
        info.file_size = size
        if stored:
            self._align(info, PAGE_BYTES if name.endswith(".so") else WORD_BYTES)
        with self._zip.open(info, "w") as entry:
            yield entry  # type: ignore[misc]

    def _align(self, info: zipfile.ZipInfo, multiple: int) -> None:
        """Pad the entry's header so that its data begins at a multiple of so many bytes."""
        assert self._zip.fp is not None
        before = self._zip.start_dir + _HEADER_BYTES + len(info.filename.encode()) + 6
        padding = -before % multiple
        info.extra = struct.pack("<HHH", _ALIGNMENT_FIELD, 2 + padding, multiple) + bytes(padding)


def data_offset(path: Path, name: str) -> int:
    """Where an entry's data begins in a ZIP file."""
    with zipfile.ZipFile(path) as opened, path.open("rb") as stream:
        start = opened.getinfo(name).header_offset
        stream.seek(start + _LENGTHS_AT)
        lengths: tuple[int, int] = struct.unpack("<HH", stream.read(4))
        return start + _HEADER_BYTES + sum(lengths)

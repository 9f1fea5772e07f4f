"""The parameters of a program in one file, written once and then mapped into memory.

`weights.bin` holds them one after the other, each from a multiple of 4096 bytes on; `index.json` says where.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgellm.compile.heads import CacheType
from edgellm.errors import BundleError

WEIGHTS_NAME = "weights.bin"
INDEX_NAME = "index.json"
ALIGNMENT = 4096
_MAX_INDEX_BYTES = 16 << 20


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One parameter: `nbytes` bytes of `dtype` from `offset` on."""

    name: str
    dtype: Literal["uint8", "float32"]
    offset: int
    nbytes: int


class Index(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the executor must know about the files.

    Attributes:
        isas: instruction sets with a library, best first. quant: how weights are stored.
        caches: what the key/value cache can hold, the default first.
        step_tokens: tokens that one step may have.
        entries: the parameters, in the program's order.
    """

    isas: tuple[str, ...]
    quant: str
    caches: tuple[CacheType, ...]
    step_tokens: int
    entries: tuple[Entry, ...]


class Writer:
    """Writes `weights.bin`; use as a context manager."""

    def __init__(self, directory: Path) -> None:
        self._file = (directory / WEIGHTS_NAME).open("xb")
        self.entries: list[Entry] = []

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def add(self, name: str, values: NDArray[Any]) -> None:
        """Append a uint8 or float32 array."""
        self._file.seek(-(-self._file.tell() // ALIGNMENT) * ALIGNMENT)
        offset = self._file.tell()
        self._file.write(np.ascontiguousarray(values).tobytes())
        self.entries.append(Entry(name, str(values.dtype), offset, values.nbytes))  # type: ignore[arg-type]


def write_index(directory: Path, index: Index) -> None:
    """Write `index.json`."""
    data = msgspec.json.format(msgspec.json.encode(index), indent=1)
    (directory / INDEX_NAME).write_bytes(data)


def read_index(file: Path) -> Index:
    """Read `index.json`; BundleError if it is not one."""
    try:
        if file.stat().st_size > _MAX_INDEX_BYTES:
            raise BundleError(f"{file} is larger than {_MAX_INDEX_BYTES >> 20} MiB; build the bundle again")
        return msgspec.json.decode(file.read_bytes(), type=Index)
    except (OSError, msgspec.MsgspecError) as error:
        raise BundleError(f"{file} cannot be read ({error}); build the bundle again") from None


def map_weights(file: Path, index: Index) -> list[NDArray[Any]]:
    """Every parameter as an array over the mapped file, in the program's order.

    Raises:
        BundleError: the index does not fit the file.
    """
    try:
        # Private pages: what is never written stays the file's own, shared with the page cache.
        memory = np.memmap(file, np.uint8, mode="c")
    except (OSError, ValueError) as error:
        raise BundleError(f"{file} cannot be mapped ({error}); build the bundle again") from None
    arrays = []
    for entry in index.entries:
        end = entry.offset + entry.nbytes
        if entry.offset < 0 or entry.offset % ALIGNMENT or entry.nbytes <= 0 or end > len(memory):
            raise BundleError(f"{file}: parameter {entry.name} lies outside the file; build the bundle again")
        arrays.append(memory[entry.offset : end].view(entry.dtype))
    return arrays

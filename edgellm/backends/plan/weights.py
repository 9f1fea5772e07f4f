"""Weights of a GPU program: shards, and a table of what lies where in them.

A buffer lies in one shard, from a multiple of 256 bytes on. A shard is closed when the next buffer would make
it larger than `SHARD_BYTES`; a buffer larger than that has a shard of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgellm.errors import BundleError

TABLE_NAME = "weights.json"
SHARD_BYTES = 64 << 20
ALIGNMENT = 256
_MAX_TABLE_BYTES = 16 << 20


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One buffer: `bytes` bytes of a shard from `offset` on."""

    name: str
    shard: int
    offset: int
    bytes: int


def shard_name(index: int) -> str:
    """File of a shard."""
    return f"weights-{index:03}.bin"


def write_weights(folder: Path, buffers: Iterable[tuple[str, NDArray[Any]]]) -> int:
    """Write shards and table into `folder`, buffer by buffer; returns the bytes of all shards."""
    entries: list[Entry] = []
    shard, offset, total = 0, 0, 0
    file = (folder / shard_name(shard)).open("xb")
    try:
        for name, values in buffers:
            if offset and offset + values.nbytes > SHARD_BYTES:
                file.close()
                shard, offset = shard + 1, 0
                file = (folder / shard_name(shard)).open("xb")
            file.seek(offset)
            file.write(np.ascontiguousarray(values).tobytes())
            entries.append(Entry(name, shard, offset, values.nbytes))
            total += values.nbytes
            offset = -(-(offset + values.nbytes) // ALIGNMENT) * ALIGNMENT
    finally:
        file.close()
    (folder / TABLE_NAME).write_bytes(msgspec.json.format(msgspec.json.encode(entries), indent=1) + b"\n")
    return total


class Buffers(Protocol):
    """Weights by the names that a plan gives them."""

    def __getitem__(self, name: str) -> NDArray[np.uint8]: ...


class MappedWeights:
    """The shards of a folder, mapped; buffers by name."""

    def __init__(self, folder: Path) -> None:
        """Open.

        Raises:
            BundleError: the table or a shard cannot be read, or they do not fit together.
        """
        table = folder / TABLE_NAME
        try:
            if table.stat().st_size > _MAX_TABLE_BYTES:
                raise BundleError(
                    f"{table} is larger than {_MAX_TABLE_BYTES >> 20} MiB; build the bundle again"
                )
            entries = msgspec.json.decode(table.read_bytes(), type=list[Entry])
            files = {
                one.shard: np.memmap(folder / shard_name(one.shard), np.uint8, mode="r") for one in entries
            }
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            raise BundleError(f"{folder}: weights cannot be read ({error}); build the bundle again") from None
        self._buffers: dict[str, NDArray[np.uint8]] = {}
        for one in entries:
            if one.offset < 0 or one.bytes <= 0 or one.offset + one.bytes > len(files[one.shard]):
                raise BundleError(f"{table}: {one.name} lies outside its shard; build the bundle again")
            self._buffers[one.name] = files[one.shard][one.offset : one.offset + one.bytes]

    def __getitem__(self, name: str) -> NDArray[np.uint8]:
        """A buffer's bytes."""
        try:
            return self._buffers[name]
        except KeyError:
            raise BundleError(f"the weights have no buffer {name!r}; build the bundle again") from None

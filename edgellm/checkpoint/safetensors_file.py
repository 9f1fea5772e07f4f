"""One safetensors file, read and checked by hand: nothing is trusted that the header claims.

Format (https://github.com/huggingface/safetensors#format): 8 bytes, little-endian length N of the header;
N bytes of JSON `{name: {"dtype", "shape", "data_offsets": [begin, end]}}`, optionally `__metadata__`; then
the tensors' bytes, row-major, little-endian, without holes or overlaps.
"""

from __future__ import annotations

import contextlib
import math
import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgellm.checkpoint.jsonfile import parse_json
from edgellm.errors import CheckpointError

MAX_HEADER_BYTES = 100_000_000
MAX_DIMENSION = 1 << 40

# dtype -> (numpy code of the stored numbers, bytes of one); numpy has no bfloat16.
FLOATS = {"F32": ("<f4", 4), "F16": ("<f2", 2), "BF16": ("<u2", 2)}


@dataclass(frozen=True)
class TensorEntry:
    """Where a tensor lies. `start` counts from the beginning of the file, in bytes."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    nbytes: int


class SafetensorsFile:
    """An open file; tensors are read one at a time and their pages given back at once."""

    def __init__(self, path: Path) -> None:
        """Reads and checks the header alone. Raises CheckpointError."""
        self.path = path
        try:
            with path.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(0)
                self.entries = _read_header(path, file.read(8), size, file.read)
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            raise CheckpointError(f"{path} is missing; download the checkpoint again") from None
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from None

    def read_float32(self, name: str, rows: slice = slice(None)) -> NDArray[np.float32]:
        """A float32 copy of tensor `name` (stored as one of FLOATS), or of `rows` of its first dimension."""
        entry = self.entries[name]
        code, itemsize = FLOATS[entry.dtype]
        count = entry.nbytes // itemsize
        stored = np.frombuffer(self._map, dtype=code, count=count, offset=entry.start).reshape(entry.shape)[
            rows
        ]
        if entry.dtype == "BF16":  # bfloat16 is the upper half of a float32
            wide = stored.astype(np.uint32)
            np.left_shift(wide, 16, out=wide)
            values = wide.view(np.float32)
        else:
            values = stored.astype(np.float32)
        del stored
        self._release(entry)
        return values

    def close(self) -> None:
        """Unmap the file; if a view of it is alive still (in the frames of an interrupt), with that view."""
        with contextlib.suppress(BufferError):
            self._map.close()

    def _release(self, entry: TensorEntry) -> None:
        """Drop the tensor's pages from this process, so that a build's memory does not grow with the file."""
        if not hasattr(self._map, "madvise"):  # Windows has no madvise, and trims by itself
            return
        begin = -(-entry.start // mmap.PAGESIZE) * mmap.PAGESIZE
        end = (entry.start + entry.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
        if end > begin:
            self._map.madvise(mmap.MADV_DONTNEED, begin, end - begin)


def _read_header(path: Path, first: bytes, size: int, read: Any) -> dict[str, TensorEntry]:
    if len(first) < 8:
        raise CheckpointError(f"{path} is truncated: {size} bytes are no safetensors file; download it again")
    length = int.from_bytes(first, "little")
    if length > MAX_HEADER_BYTES:
        raise CheckpointError(f"{path} is no safetensors file: its header would be {length:,} bytes long")
    if 8 + length > size:
        raise CheckpointError(f"{path} is truncated inside its header; download it again")
    header = parse_json(read(length), f"{path}: the header")
    header.pop("__metadata__", None)
    entries = {name: _entry(path, name, raw, 8 + length) for name, raw in header.items()}
    expected = 8 + length
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].nbytes)):
        if entry.start != expected:
            raise CheckpointError(
                f"{path}: tensor {name} leaves a hole or overlaps another one; download it again"
            )
        expected += entry.nbytes
    if expected > size:
        raise CheckpointError(
            f"{path} is truncated: {size:,} bytes of {expected:,}; delete it and download it again"
        )
    if expected < size:
        raise CheckpointError(f"{path} has {size - expected:,} bytes that no tensor owns; download it again")
    return entries


def _entry(path: Path, name: str, raw: Any, base: int) -> TensorEntry:
    try:
        dtype, shape, (begin, end) = raw["dtype"], raw["shape"], raw["data_offsets"]
        numbers = [begin, end, *shape]
        sound = isinstance(dtype, str) and all(type(n) is int and 0 <= n <= MAX_DIMENSION for n in numbers)
    except (TypeError, KeyError, ValueError):
        sound = False
    if not sound or len(shape) > 8 or end < begin:
        raise CheckpointError(f"{path}: the header's entry of tensor {name} is malformed; download it again")
    if dtype in FLOATS and math.prod(shape) * FLOATS[dtype][1] != end - begin:
        raise CheckpointError(
            f"{path}: tensor {name} has {end - begin:,} bytes, which is not its shape {shape} of {dtype}"
        )
    return TensorEntry(dtype, tuple(shape), base + begin, end - begin)

"""`TensorReader`: the tensors of a checkpoint by their stored names, in one file or in shards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgellm.checkpoint.jsonfile import read_json
from edgellm.checkpoint.safetensors_file import SafetensorsFile, TensorEntry
from edgellm.errors import CheckpointError, UnsupportedError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


class TensorReader(Mapping[str, TensorEntry]):
    """Stored names to entries (dtype, shape, place), and the values on demand."""

    def __init__(self, files: list[SafetensorsFile], homes: dict[str, SafetensorsFile]) -> None:
        self._files = files
        self._homes = homes

    @classmethod
    def open(cls, directory: Path) -> TensorReader:
        """Open `model.safetensors`, or every shard of its index; reads headers alone. CheckpointError."""
        if (directory / SINGLE).is_file():
            return cls.open_file(directory / SINGLE)
        if (directory / INDEX).is_file():
            return cls._open_shards(directory)
        if any(directory.glob("*.bin")) or any(directory.glob("*.pt*")):
            raise UnsupportedError(
                f"{directory} holds pickled weights (.bin, .pt), which are never loaded; "
                "convert them to safetensors, or choose a checkpoint that has them"
            )
        raise CheckpointError(f"{directory} has no {SINGLE} and no {INDEX}; a checkpoint needs one of them")

    @classmethod
    def open_file(cls, path: Path) -> TensorReader:
        """Open one safetensors file."""
        file = SafetensorsFile(path)
        return cls([file], dict.fromkeys(file.entries, file))

    @classmethod
    def _open_shards(cls, directory: Path) -> TensorReader:
        index = directory / INDEX
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise CheckpointError(f"{index} has no weight_map; download it again")
        shards: dict[str, SafetensorsFile] = {}
        homes: dict[str, SafetensorsFile] = {}
        for name, shard in weight_map.items():
            if not isinstance(shard, str) or Path(shard).name != shard or not shard.endswith(".safetensors"):
                raise CheckpointError(
                    f"{index} places tensor {name} in {shard!r}, which is no file beside it"
                )
            if shard not in shards:
                if not (directory / shard).is_file():
                    raise CheckpointError(
                        f"{index} names {shard}, which is missing; download the checkpoint again"
                    )
                shards[shard] = SafetensorsFile(directory / shard)
            if name not in shards[shard].entries:
                raise CheckpointError(f"{index} places tensor {name} in {shard}, which does not have it")
            homes[name] = shards[shard]
        return cls(list(shards.values()), homes)

    def __getitem__(self, name: str) -> TensorEntry:
        return self._homes[name].entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._homes)

    def __len__(self) -> int:
        return len(self._homes)

    def file_of(self, name: str) -> Path:
        """The file that holds tensor `name`."""
        return self._homes[name].path

    def read_float32(self, name: str, rows: slice = slice(None)) -> NDArray[np.float32]:
        """A float32 copy of tensor `name` or some `rows`; CheckpointError if a value is NaN or infinite."""
        values = self._homes[name].read_float32(name, rows)
        # The sum of squares is finite unless a value is not, or is beyond 1e19: look closer only then.
        flat = values.reshape(-1)
        with np.errstate(over="ignore", invalid="ignore"):
            finite = bool(np.isfinite(np.dot(flat, flat))) or bool(np.isfinite(flat).all())
        if not finite:
            kind = "a NaN" if np.isnan(flat).any() else "an infinity"
            raise CheckpointError(
                f"{self.file_of(name)}: tensor {name} holds {kind}; download the checkpoint again"
            )
        return values

    def close(self) -> None:
        """Close every file."""
        for file in self._files:
            file.close()

    def __enter__(self) -> TensorReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

"""Reading the JSON files of a checkpoint, which are input from outside: bounded, strict, never surprising."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgellm.errors import CheckpointError

MAX_JSON_BYTES = 64 << 20


def read_json(path: Path, *, limit: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """The JSON object in `path`; CheckpointError if missing, larger than `limit` bytes or not an object."""
    return parse_json(read_bytes(path, limit=limit), str(path))


def read_text(path: Path, *, limit: int) -> str:
    """The UTF-8 text in `path`; CheckpointError if it is missing, larger than `limit` bytes or not UTF-8."""
    try:
        return read_bytes(path, limit=limit).decode("utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is not UTF-8 text (byte {error.start}); download it again") from None


def read_bytes(path: Path, *, limit: int) -> bytes:
    """The content of `path`; CheckpointError if it is missing, unreadable or larger than `limit` bytes."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing; a checkpoint needs {path.name}") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from None
    if len(data) > limit:
        raise CheckpointError(f"{path} is larger than the limit of {limit:,} bytes for such a file")
    return data


def parse_json(data: bytes, where: str) -> dict[str, Any]:
    """`data` as one JSON object. Repeated keys, NaN and infinities are refused; `where` names the source."""
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise CheckpointError(f"{where} is not valid JSON ({error}); download it again") from None
    if not isinstance(value, dict):
        raise CheckpointError(
            f"{where} holds a JSON {type(value).__name__}, not an object; download it again"
        )
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the key {key!r} appears twice")
        result[key] = value
    return result


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")

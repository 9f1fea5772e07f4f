"""Writing CTranslate2's `model.bin` as a stream.

Layout (ctranslate2 `specs/model_spec.py`, binary version 6), little-endian: uint32 version; name of the
specification; uint32 its revision; uint32 n, then n variables, each: name, uint8 rank, uint32 per dimension,
uint8 type, uint32 bytes, values; uint32 m, then m aliases, each two names. A name is a uint16 length with its
closing zero counted, UTF-8, zero.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from ctranslate2.specs import model_spec
from ctranslate2.specs.transformer_spec import TransformerDecoderModelSpec

from edgellm.backends.ctranslate2.variables import Matrix
from edgellm.errors import UnsupportedError

_VERSION = 6
_TYPES = ("float32", "int8", "int16", "int32", "float16", "bfloat16")


class StreamedSpec(TransformerDecoderModelSpec):  # type: ignore[misc]
    """A decoder's specification whose matrices are never all in memory when it is saved."""

    def _serialize(self, path: str) -> None:
        if model_spec.CURRENT_BINARY_VERSION != _VERSION:
            # A newer library knows its own format; it asks each variable for all its bytes.
            super()._serialize(path)
            return
        with Path(path).open("wb") as file:
            _write(self, file)


def _write(spec: TransformerDecoderModelSpec, file: BinaryIO) -> None:
    everything = spec.variables(ordered=True)
    variables = [(name, value) for name, value in everything if not isinstance(value, str)]
    aliases = [(name, value) for name, value in everything if isinstance(value, str)]
    file.write(struct.pack("<I", _VERSION))
    _write_name(file, spec.name)
    file.write(struct.pack("<II", spec.revision, len(variables)))
    for name, variable in variables:
        _write_name(file, name)
        shape = variable.shape
        if variable.num_bytes() >= 1 << 32:
            raise UnsupportedError(
                f"{name} would take {variable.num_bytes():,} bytes; CTranslate2's format ends at 4 GiB. "
                "Build with --quant int8"
            )
        file.write(struct.pack(f"<B{len(shape)}I", len(shape), *shape))
        file.write(struct.pack("<BI", _TYPES.index(variable.dtype), variable.num_bytes()))
        if isinstance(variable, Matrix):
            for chunk in variable.chunks():
                file.write(chunk.data)
        else:
            file.write(variable.to_bytes())
    file.write(struct.pack("<I", len(aliases)))
    for alias, name in aliases:
        _write_name(file, alias)
        _write_name(file, name)


def _write_name(file: BinaryIO, name: str) -> None:
    encoded = name.encode()
    file.write(struct.pack("<H", len(encoded) + 1) + encoded + b"\0")

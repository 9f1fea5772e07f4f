"""What compiled code depends on, as one hash."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Iterable
from pathlib import Path

import msgspec

_PACKAGE = Path(__file__).resolve().parents[1]
_SOURCES = ("compile", "quantize", "bundle/model_config.py")
"""What decides on the code that comes out, beside the job and the compilers."""
_KINDS = ("*.py", "*.h")


def content_key(job: msgspec.Struct, compilers: Iterable[str]) -> str:
    """Hash of a job, of the versions of the packages that compile it, and of this package's own code."""
    digest = hashlib.sha256(msgspec.json.encode(job, order="deterministic"))
    for name in compilers:
        digest.update(f"{name} {importlib.metadata.version(name)}\n".encode())
    for source in _SOURCES:
        path = _PACKAGE / source
        files = (file for kind in _KINDS for file in path.rglob(kind))
        for file in sorted(files) if path.is_dir() else [path]:
            digest.update(f"{file.relative_to(_PACKAGE).as_posix()}\n".encode() + file.read_bytes())
    return digest.hexdigest()

"""`edgellm.json` as bytes: encoding with its checksum, and decoding with every check a reader must make."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from edgellm.bundle.manifest import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    TOKENIZER_NAME,
    ZERO_SHA256,
    Manifest,
)
from edgellm.bundle.paths import paths_problem
from edgellm.errors import BundleError

# The file ends with the 64 digits of its checksum and these bytes, so that any reader finds them by offset.
_TAIL = b'"\n}\n'
_DIGITS = slice(-len(_TAIL) - 64, -len(_TAIL))


class _Head(msgspec.Struct):
    """What every format version has, readable before the rest is understood."""

    format: int
    edgellm: str = "a newer version"


def checksum(data: bytes) -> str:
    """SHA-256, lower-case hex, of a manifest's bytes with the digits of its checksum taken as zeros."""
    digest = hashlib.sha256(data[: _DIGITS.start])
    digest.update(ZERO_SHA256.encode() + _TAIL)
    return digest.hexdigest()


def encode_manifest(manifest: Manifest) -> bytes:
    """The bytes of `edgellm.json`: JSON indented by two, UTF-8, the checksum filled in.

    Raises:
        BundleError: a value would make the file unreadable; nothing may be written then.
    """
    body = msgspec.json.encode(msgspec.structs.replace(manifest, checksum=ZERO_SHA256))
    data = msgspec.json.format(body, indent=2) + b"\n"
    data = data[: _DIGITS.start] + checksum(data).encode() + _TAIL
    decode_manifest(data, "the new manifest")
    return data


def decode_manifest(data: bytes, where: str) -> Manifest:
    """The manifest in `data`, checked: format version, types, paths, checksum.

    Args:
        where: what to call the file in an error.

    Raises:
        BundleError: says which field is wrong, or which version of edgellm reads this format.
    """
    if len(data) > MAX_MANIFEST_BYTES:
        raise BundleError(f"{where} is larger than {MAX_MANIFEST_BYTES >> 20} MiB: it is no manifest")
    try:
        head = msgspec.json.decode(data, type=_Head)
        if head.format > FORMAT_VERSION:
            raise BundleError(
                f"{where} has bundle format {head.format} and this edgellm reads up to {FORMAT_VERSION}: "
                f"upgrade to edgellm {head.edgellm[:40]} or later (pip install -U edgellm)"
            )
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{where} is damaged ({error}): build the bundle again") from None
    if reason := _problem(manifest):
        raise BundleError(f"{where} is damaged ({reason}): build the bundle again")
    if not data.endswith(_TAIL) or data[_DIGITS] != manifest.checksum.encode():
        raise BundleError(f"{where} is damaged (it does not end with its checksum): build the bundle again")
    if checksum(data) != manifest.checksum:
        raise BundleError(
            f"{where} was changed after the build (its checksum does not match): build the bundle again"
        )
    return manifest


def read_manifest(directory: Path) -> Manifest:
    """The manifest of the bundle at `directory`.

    Raises:
        BundleError: there is none, it cannot be read, or `decode_manifest` refuses it.
    """
    file = directory / MANIFEST_NAME
    if file.is_symlink():
        raise BundleError(f"{file} is a symbolic link; a bundle has none")
    if not directory.is_dir():
        what = "is not a directory" if directory.exists() else "does not exist"
        raise BundleError(f"{directory} {what}: a bundle is a directory that `edgellm build` wrote")
    if not file.is_file():
        if (directory / "config.json").is_file():
            hint = f"it looks like a checkpoint; build it first: edgellm build {directory}"
        else:
            hint = "a bundle is a directory that `edgellm build` wrote"
        raise BundleError(f"{directory} has no {MANIFEST_NAME}: {hint}")
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise BundleError(f"{file} cannot be read: {error.strerror}") from None
    return decode_manifest(data, str(file))


def _problem(manifest: Manifest) -> str | None:
    """What the types cannot say: paths that may stand together, sorted, and the files that must be there."""
    paths = [entry.path for entry in manifest.files]
    if reason := paths_problem(paths):
        return reason
    if paths != sorted(paths):
        return "its files are not sorted by path"
    needed = [TOKENIZER_NAME, *([manifest.chat_template] if manifest.chat_template else [])]
    missing = [path for path in needed if path not in paths]
    return f"its files do not include {missing[0]}" if missing else None

"""What apps for phones share: who they are, whether a bundle is for them, and what they take."""

from __future__ import annotations

import re
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from edgellm.bundle.bundle import Bundle
from edgellm.errors import UnsupportedError, UsageError
from edgellm.units import bytes_text

MAX_NAME = 50
"""Characters; launchers show fewer."""
MAX_ID = 150
MAX_ICON_BYTES = 4 << 20
MAX_ICON_SIDE = 4096
_MAX_PART = 999
_PNG = b"\x89PNG\r\n\x1a\n"
_ALPHA = {0: False, 2: False, 3: False, 4: True, 6: True}
# Words of Java, which no part of a package's name may be (JLS 3.9).
_JAVA_WORDS = frozenset(
    re.findall(
        "[a-z]+",
        "abstract assert boolean break byte case catch char class const continue default do double else "
        "enum extends false final finally float for goto if implements import instanceof int interface "
        "long native new null package private protected public return short static strictfp super switch "
        "synchronized this throw throws transient true try void volatile while ",
    )
)


@dataclass(frozen=True)
class Version:
    """`1.2.3`, as stores take it."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    @property
    def code(self) -> int:
        """A number that is greater for each later version, from 1 on: 1.2.3 is 1002003."""
        return max(1, (self.major * 1000 + self.minor) * 1000 + self.patch)


@dataclass(frozen=True)
class Icon:
    """A PNG as it is in its file. `side`: width and height in pixels."""

    data: bytes
    side: int
    alpha: bool


@dataclass(frozen=True)
class App:
    """Who an app is."""

    id: str
    name: str
    version: Version
    icon: Icon | None


def describe(
    bundle: Bundle,
    *,
    id: str | None,
    name: str | None,
    version: str,
    icon: Path | None,
    extra: str,
    side: int,
) -> App:
    """The app that the options name; what they leave out comes from the bundle.

    Args:
        extra: the character that an id may have besides letters, digits and dots: `_` on Android, `-` on iOS.
        side: pixels that the icon must have at least.

    Raises:
        UsageError: an option is wrong; names it.
    """
    own = bundle.manifest.source.name.rstrip("/").rsplit("/", 1)[-1]
    chosen = _name(own[:MAX_NAME] if name is None else name)
    return App(
        id=_id(f"com.example.{_slug(own)}" if id is None else id, extra),
        name=chosen,
        version=_version(version),
        icon=None if icon is None else read_icon(icon, side),
    )


def open_bundle(path: Path, *, system: str, targets: Collection[str], programs: Collection[str]) -> Bundle:
    """Open a bundle that is for one of `targets` and has one of `programs`.

    Args:
        system: "Android" or "iOS", for messages.

    Raises:
        UnsupportedError: it is for something else. BundleError: it is damaged.
    """
    bundle = Bundle.open(path)
    manifest = bundle.manifest
    have = {entry.path for entry in manifest.files}
    if manifest.target not in targets or not any(
        f"{manifest.backend}/{program}/plan.json" in have for program in programs
    ):
        raise UnsupportedError(
            f"bundle {bundle.path} was built for {manifest.target} and has no program that {system} runs: "
            f"build it with edgellm build MODEL --target {' or --target '.join(targets)}"
        )
    return bundle


def read_icon(path: Path, side: int) -> Icon:
    """Read and check a PNG (ISO/IEC 15948): square, of at least `side` pixels.

    Raises:
        UsageError: it cannot be read, or is not such a PNG.
    """
    try:
        if path.stat().st_size > MAX_ICON_BYTES:
            raise UsageError(
                f"--icon {path} has more than {bytes_text(MAX_ICON_BYTES)}; choose a smaller PNG"
            )
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"--icon {path} cannot be read: {error.strerror}") from None
    names = _chunks(data)
    if names is None or names[:1] != [b"IHDR"] or names[-1:] != [b"IEND"] or b"IDAT" not in names:
        raise UsageError(f"--icon {path} is not a whole PNG; give a square PNG of {side} pixels or more")
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    alpha = _ALPHA.get(data[25])
    if width != height or not side <= width <= MAX_ICON_SIDE or alpha is None:
        raise UsageError(
            f"--icon {path} has {width} x {height} pixels; give a square PNG of {side} to {MAX_ICON_SIDE} "
            "pixels"
        )
    return Icon(data, width, alpha or b"tRNS" in names)


def memory_bytes(bundle: Bundle) -> int:
    """What one conversation of the bundle's whole context takes in memory."""
    return bundle.manifest.memory.total(bundle.manifest.context, 1)


def sizes(bundle: Bundle) -> dict[str, int]:
    """Bytes of the bundle's files by what they are: weights, programs and tokenizer."""
    found = {"weights": 0, "programs": 0, "tokenizer": 0}
    for entry in bundle.manifest.files:
        folder, _, file = entry.path.rpartition("/")
        if not folder:
            found["tokenizer"] += entry.bytes
        elif file.endswith(".bin"):
            found["weights"] += entry.bytes
        else:
            found["programs"] += entry.bytes
    return found


def _name(value: str) -> str:
    value = value.strip()
    if not value or len(value) > MAX_NAME or not value.isprintable():
        raise UsageError(f"--name must be one line of 1 to {MAX_NAME} printable characters")
    return value


def _slug(name: str) -> str:
    slug = re.sub(r"[^a-z0-9]", "", name.lower())
    return f"app{slug}" if not slug or slug[0].isdigit() or slug in _JAVA_WORDS else slug[:40]


def _id(value: str, extra: str) -> str:
    part = rf"[A-Za-z][A-Za-z0-9{re.escape(extra)}]*"
    words = [word for word in value.split(".") if word in _JAVA_WORDS and extra == "_"]
    if len(value) > MAX_ID or not re.fullmatch(rf"{part}(\.{part})+", value) or words:
        why = f" ({words[0]} is a word of Java)" if words else ""
        raise UsageError(
            f"--id {value} is no application id{why}: give two or more parts like com.example.app, each a "
            f"letter and then letters, digits or {extra}"
        )
    return value


def _version(value: str) -> Version:
    found = re.fullmatch(r"([0-9]{1,3})(?:\.([0-9]{1,3}))?(?:\.([0-9]{1,3}))?", value)
    if not found:
        raise UsageError(
            f"--app-version {value} must be one to three numbers of up to {_MAX_PART}, as in 1.2.3"
        )
    return Version(*(int(part or 0) for part in found.groups()))


def _chunks(data: bytes) -> list[bytes] | None:
    """Types of a PNG's chunks in order; None if it is cut, or a checksum is wrong."""
    if not data.startswith(_PNG):
        return None
    names, at = [], len(_PNG)
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        body = data[at + 4 : at + 8 + size]
        if len(body) != size + 4 or zlib.crc32(body) != int.from_bytes(
            data[at + 8 + size : at + 12 + size], "big"
        ):
            return None
        names.append(body[:4])
        at += size + 12
        if names[0] == b"IHDR" and len(names) == 1 and size != 13:
            return None
    return names

"""Whether a library is for this operating system: said before it is loaded, in words that help."""

from __future__ import annotations

from pathlib import Path

from edgellm.errors import BundleError, UnsupportedError
from edgellm.machine import system_name

_FORMATS = {b"\x7fELF": "linux", b"\xcf\xfa\xed\xfe": "macos", b"MZ": "windows"}
"""How files begin: ELF, Mach-O with 64 bits, PE."""
_TITLES = {"linux": "Linux", "macos": "macOS", "windows": "Windows"}


def check_system(library: Path) -> None:
    """Refuse a library of another system.

    Raises:
        UnsupportedError: it is one. BundleError: it is no library, or cannot be read.
    """
    try:
        with library.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise BundleError(f"{library} cannot be read ({error}); build the bundle again") from None
    system = next((name for magic, name in _FORMATS.items() if start.startswith(magic)), None)
    if system is None:
        raise BundleError(f"{library} is no shared library; build the bundle again")
    here = system_name()
    if system != here:
        raise UnsupportedError(
            f"this bundle has code for {_TITLES[system]} and this is {_TITLES.get(here, here)}; build the "
            f"model again here, or with --system {here}"
        )

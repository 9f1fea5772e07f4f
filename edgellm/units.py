"""Numbers as people read them."""

from __future__ import annotations


def bytes_text(size: int) -> str:
    """A size in decimal units, as disks and downloads give them: `512 bytes`, `7.8 MB`, `1.24 GB`."""
    if size < 1000:
        return f"{size} bytes"
    if size < 1_000_000:
        return f"{size / 1e3:.1f} kB"
    if size < 1_000_000_000:
        return f"{size / 1e6:.1f} MB"
    return f"{size / 1e9:,.2f} GB"

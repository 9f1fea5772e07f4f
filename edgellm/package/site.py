"""`site.json`, the manifest of a packaged site: its files with their hashes, and headers to serve with."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from edgellm.bundle.manifest import MAX_MANIFEST_BYTES, FileEntry, RelativePath
from edgellm.bundle.paths import plain_file
from edgellm.bundle.verify import Problem, check_file

SITE_NAME = "site.json"
FORMAT_VERSION = 1

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; "
    "require-trusted-types-for 'script'; trusted-types default"
)
"""In the page itself: whatever a model says can neither become markup or a script, nor reach another host."""

HEADERS = {
    # A page cannot say the last one of itself.
    "Content-Security-Policy": f"{PAGE_POLICY}; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
"""What a server should send with every file; the page works without them."""


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """`site.json`. Nothing in it depends on the time, place or machine."""

    format: int
    edgellm: str
    name: str
    """The model, as the page calls it."""
    title: str
    version: str
    """Hash of all that the service worker keeps; a browser takes another one for a new version."""
    bundle: RelativePath
    headers: dict[str, str]
    page: tuple[FileEntry, ...]
    """What the service worker keeps for use without a network."""
    model: tuple[FileEntry, ...]
    """The bundle; the runtime keeps what it needs of it by hash."""
    worker: FileEntry

    @property
    def files(self) -> tuple[FileEntry, ...]:
        """All of them but `site.json`."""
        return (*self.page, self.worker, *self.model)


def verify_site(path: Path, site: Site) -> list[Problem]:
    """What differs between a site and its manifest."""
    return [problem for entry in site.files if (problem := check_file(path, entry)) is not None]


def read_site(path: Path) -> Site | None:
    """The manifest of the site at `path`; None if that is no site of this format."""
    status = plain_file(path, SITE_NAME)
    if isinstance(status, str) or status.st_size > 2 * MAX_MANIFEST_BYTES:
        return None
    try:
        site = msgspec.json.decode((path / SITE_NAME).read_bytes(), type=Site)
    except (OSError, msgspec.MsgspecError, RecursionError):
        return None
    return site if site.format == FORMAT_VERSION else None


def foreign_files(place: Path, site: Site) -> list[str]:
    """Paths of files and links at `place` that the site does not list, sorted."""
    listed = {SITE_NAME, *(entry.path for entry in site.files)}
    found = []
    for parent, folders, names in os.walk(place):
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        found += [(Path(parent) / name).relative_to(place).as_posix() for name in (*names, *links)]
    return sorted(name for name in found if name not in listed)

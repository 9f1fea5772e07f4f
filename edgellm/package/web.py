"""`edgellm package web`: a bundle and the chat page as a static site, with a manifest of its own.

    index.html, assets/, sw.js ...   the page, its runtime, and the service worker that keeps them
    model/                           the bundle, as it is
    site.json                        every other file with its size and SHA-256, and the headers to serve with

The same bundle and options give the same bytes.
"""

from __future__ import annotations

import hashlib
import html
import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edgellm import __version__
from edgellm.bundle.bundle import Bundle
from edgellm.bundle.manifest import MANIFEST_NAME, FileEntry
from edgellm.bundle.paths import plain_file
from edgellm.errors import EdgeLLMError, UnsupportedError, UsageError
from edgellm.package.folder import Report, check_place, write_folder
from edgellm.package.page import built_page
from edgellm.package.site import (
    FORMAT_VERSION,
    HEADERS,
    PAGE_POLICY,
    SITE_NAME,
    Site,
    foreign_files,
    read_site,
    verify_site,
)

MODEL_FOLDER = "model"
WORKER = "sw.js"
PROGRAMS = ("wgsl-fp16", "wgsl-fp32")
_MAX_TEXT = 120


@dataclass(frozen=True)
class WebSite:
    """A written site. `unchanged`: the same one stood there already. Sizes are in bytes."""

    path: Path
    site: Site
    unchanged: bool

    @property
    def page_bytes(self) -> int:
        """The page with its runtime."""
        return sum(one.bytes for one in self.site.page) + self.site.worker.bytes

    @property
    def model_bytes(self) -> int:
        """The bundle."""
        return sum(one.bytes for one in self.site.model)


def package_web(
    bundle: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    name: str | None = None,
    title: str | None = None,
    force: bool = False,
    on_progress: Report | None = None,
) -> WebSite:
    """Write the static site of a bundle to `out`; it appears there when it is whole.

    Args:
        name: what the page calls the model. title: the page's title. By default both are the bundle's name.
        force: replace another site that stands at `out`.
        on_progress: called with ("copy", bytes copied, bytes in all).

    Raises:
        UnsupportedError: the bundle has no program for WebGPU.
        BundleError: it is damaged. EdgeLLMError: `out` cannot be written, or the page cannot be built.
    """
    opened = Bundle.open(bundle)
    _check_programs(opened)
    name = _text("--name", opened.manifest.source.name if name is None else name)
    title = _text("--title", name if title is None else title)
    page = _page_files(built_page(), opened, name, title)
    site, texts = _describe(opened, page, name, title)
    place = Path(out).expanduser().resolve()
    check_place(place, opened.path)
    if _stands(place, texts[SITE_NAME], site):
        return WebSite(place, site, unchanged=True)
    _check_free(place, force=force)
    copied = {f"{MODEL_FOLDER}/{entry.path}": entry for entry in opened.manifest.files}
    write_folder(place, "the site", opened, texts, copied, on_progress=on_progress)
    return WebSite(place, site, unchanged=False)


def _check_programs(bundle: Bundle) -> None:
    manifest = bundle.manifest
    have = {entry.path for entry in manifest.files}
    if not any(f"{manifest.backend}/{program}/plan.json" in have for program in PROGRAMS):
        raise UnsupportedError(
            f"bundle {bundle.path} was built for {manifest.target} and has no program that browsers run: "
            "build it with edgellm build MODEL --target webgpu"
        )


def _text(option: str, value: str) -> str:
    value = value.strip()
    if not value or len(value) > _MAX_TEXT or not value.isprintable():
        raise UsageError(f"{option} must be one line of 1 to {_MAX_TEXT} printable characters")
    return value


def _page_files(built: Path, bundle: Bundle, name: str, title: str) -> dict[str, bytes]:
    """The page's files by path; the marks in those that know the model are filled in."""
    marks = {
        "__EDGELLM_POLICY__": PAGE_POLICY,
        "__EDGELLM_NAME__": name,
        "__EDGELLM_TITLE__": title,
        "__EDGELLM_BUNDLE__": f"{MODEL_FOLDER}/",
        "__EDGELLM_BYTES__": str(bundle.total_bytes),
        "__EDGELLM_CONTEXT__": str(bundle.manifest.context),
    }
    found = {
        file.relative_to(built).as_posix(): file.read_bytes()
        for file in sorted(built.rglob("*"))
        if file.is_file()
    }
    text = found["index.html"].decode()
    for mark, value in marks.items():
        text = text.replace(mark, html.escape(value))
    found["index.html"] = text.encode()
    about = {
        "name": title,
        "short_name": name[:30],
        "start_url": "./",
        "scope": "./",
        "display": "standalone",
        "icons": [{"src": "icon.svg", "sizes": "any", "type": "image/svg+xml"}],
    }
    found["app.webmanifest"] = msgspec.json.format(msgspec.json.encode(about), indent=1) + b"\n"
    return found


def _describe(bundle: Bundle, page: dict[str, bytes], name: str, title: str) -> tuple[Site, dict[str, bytes]]:
    """The site's manifest, and the contents of all files but the bundle's."""
    worker = page.pop(WORKER)
    entries = tuple(_entry(path, data) for path, data in sorted(page.items()))
    version = hashlib.sha256(msgspec.json.encode(entries)).hexdigest()[:32]
    worker = worker.replace(b"__EDGELLM_VERSION__", version.encode())
    manifest = (bundle.path / MANIFEST_NAME).read_bytes()
    site = Site(
        format=FORMAT_VERSION,
        edgellm=__version__,
        name=name,
        title=title,
        version=version,
        bundle=MODEL_FOLDER,
        headers=HEADERS,
        page=entries,
        worker=_entry(WORKER, worker),
        model=(
            _entry(f"{MODEL_FOLDER}/{MANIFEST_NAME}", manifest),
            *(
                msgspec.structs.replace(entry, path=f"{MODEL_FOLDER}/{entry.path}")
                for entry in bundle.manifest.files
            ),
        ),
    )
    text = msgspec.json.format(msgspec.json.encode(site), indent=1) + b"\n"
    return site, {**page, WORKER: worker, f"{MODEL_FOLDER}/{MANIFEST_NAME}": manifest, SITE_NAME: text}


def _entry(path: str, data: bytes) -> FileEntry:
    return FileEntry(path, len(data), hashlib.sha256(data).hexdigest())


def _stands(place: Path, text: bytes, site: Site) -> bool:
    """Whether this very site is at `place`."""
    if not isinstance(status := plain_file(place, SITE_NAME), os.stat_result):
        return False
    if status.st_size != len(text) or (place / SITE_NAME).read_bytes() != text:
        return False
    return not verify_site(place, site) and not foreign_files(place, site)


def _check_free(place: Path, *, force: bool) -> None:
    """Whether a site may be put at `place`: nothing is there, or with `force` a site and nothing else."""
    if not place.exists():
        return
    if not place.is_dir():
        raise EdgeLLMError(f"{place} exists and is a file; choose another --out")
    if not any(place.iterdir()):
        return
    site = read_site(place)
    if site is None:
        raise EdgeLLMError(f"{place} exists and is not a site that edgellm wrote; choose another --out")
    if not force:
        raise EdgeLLMError(f"{place} holds another site; --force replaces it, or choose another --out")
    if foreign := foreign_files(place, site):
        raise EdgeLLMError(
            f"{place} holds files that are not the site's ({foreign[0]}), so --force does not replace it; "
            "move them away or choose another --out"
        )

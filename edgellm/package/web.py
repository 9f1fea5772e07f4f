"""`edgellm package web`: a bundle and the chat page as a static site, with a manifest of its own.

    index.html, assets/, sw.js ...   the page, its runtime, and the service worker that keeps them
    model/                           the bundle, as it is
    site.json                        every other file with its size and SHA-256, and the headers to serve with

The same bundle and options give the same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import html
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edgellm import __version__
from edgellm.bundle.bundle import Bundle
from edgellm.bundle.manifest import MANIFEST_NAME, FileEntry
from edgellm.bundle.paths import plain_file
from edgellm.bundle.place import create_temporary, exchange, new_name, remove_tree, sync_directory
from edgellm.errors import EdgeLLMError, UnsupportedError, UsageError
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
from edgellm.units import bytes_text

MODEL_FOLDER = "model"
WORKER = "sw.js"
PROGRAMS = ("wgsl-fp16", "wgsl-fp32")
_MAX_TEXT = 120
_CHUNK_BYTES = 1 << 20


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
    on_progress: Callable[[str, int, int], None] | None = None,
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
    _check_place(place, opened.path)
    if _stands(place, texts[SITE_NAME], site):
        return WebSite(place, site, unchanged=True)
    _check_free(place, force=force)
    _write(place, opened, site, texts, on_progress or (lambda stage, done, total: None))
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


def _check_place(place: Path, bundle: Path) -> None:
    if not place.name:
        raise EdgeLLMError(f"--out {place} is the root directory; name a new directory")
    if Path.cwd().is_relative_to(place) or bundle.is_relative_to(place):
        raise EdgeLLMError(
            f"--out {place} is, or contains, the current directory or the bundle; name a new directory"
        )
    if place.is_relative_to(bundle):
        raise EdgeLLMError(f"--out {place} lies in the bundle; name a directory elsewhere")


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


def _write(
    place: Path,
    bundle: Bundle,
    site: Site,
    texts: dict[str, bytes],
    report: Callable[[str, int, int], None],
) -> None:
    total = sum(entry.bytes for entry in site.files)
    temporary = new_name(place)
    lock: int | None = None
    parents = [folder for folder in place.parents if not folder.exists()]
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        if (free := shutil.disk_usage(place.parent).free) < total:
            raise EdgeLLMError(
                f"the site takes {bytes_text(total)} and the disk of {place.parent} has {bytes_text(free)} "
                "free: free some space or choose another --out"
            )
        lock = create_temporary(place, temporary)
        for path, data in texts.items():
            _put(temporary / path, data)
        done = sum(len(data) for data in texts.values())
        for entry in bundle.manifest.files:
            _copy(bundle, entry, temporary / MODEL_FOLDER / entry.path)
            done += entry.bytes
            report("copy", min(done, total), total)
        sync_directory(temporary)
        _install(temporary, place)
    except OSError as error:
        where = error.filename or place
        raise EdgeLLMError(f"cannot write {where}: {error.strerror}; choose another --out") from None
    finally:
        remove_tree(temporary)
        if lock is not None:
            os.close(lock)
        with contextlib.suppress(OSError):  # in use now
            for folder in parents:
                folder.rmdir()


def _put(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("xb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _copy(bundle: Bundle, entry: FileEntry, to: Path) -> None:
    """Copy one file of the bundle, comparing what is copied with the manifest's hash."""
    to.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with bundle.file(entry.path).open("rb") as source, to.open("xb") as stream:
        while chunk := source.read(_CHUNK_BYTES):
            digest.update(chunk)
            stream.write(chunk)
        stream.flush()
        os.fsync(stream.fileno())
    if digest.hexdigest() != entry.sha256:
        raise EdgeLLMError(
            f"{bundle.file(entry.path)} is damaged (its SHA-256 is another one); build the bundle again"
        )


def _install(temporary: Path, place: Path) -> None:
    if place.exists() and any(place.iterdir()):
        if not exchange(temporary, place):
            old = new_name(place, "replaced")
            place.rename(old)
            temporary.rename(place)
            remove_tree(old)
    else:
        temporary.rename(place)
    sync_directory(place.parent)

"""Writing an app's project: a directory that appears when it is whole, with a list of its files.

`edgellm-app.json` names every other file with its size and SHA-256. The same bundle and options give the same
bytes; a project that has been changed since is not overwritten without being asked.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from edgellm import __version__
from edgellm.bundle.bundle import Bundle
from edgellm.bundle.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, FileEntry, RelativePath
from edgellm.bundle.paths import plain_file
from edgellm.bundle.verify import check_file
from edgellm.errors import EdgeLLMError
from edgellm.package.app import App, memory_bytes, sizes
from edgellm.package.folder import Report, check_place, write_folder
from edgellm.package.sources import is_made

PROJECT_NAME = "edgellm-app.json"
FORMAT_VERSION = 1


class ProjectFile(msgspec.Struct, frozen=True):
    """One file. Its path may have parts that begin with a dot, which a bundle's may not."""

    path: str
    bytes: int
    sha256: str


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """`edgellm-app.json`. Nothing in it depends on the time, place or machine."""

    format: int
    edgellm: str
    system: Literal["android", "ios"]
    id: str
    name: str
    version: str
    model: str
    """Where the weights came from, as the bundle says."""
    bundle: RelativePath | None
    """Folder of the bundle in the project; None if it travels separately."""
    files: tuple[ProjectFile, ...]


@dataclass(frozen=True)
class AppProject:
    """A written project. `unchanged`: the same one stood there already. Sizes are in bytes."""

    path: Path
    project: Project
    app: App
    unchanged: bool
    bundle_bytes: dict[str, int]
    memory_bytes: int

    @property
    def source_bytes(self) -> int:
        """All but the bundle."""
        folder = self.project.bundle
        return sum(f.bytes for f in self.project.files if not folder or not f.path.startswith(f"{folder}/"))


def write_project(
    out: str | os.PathLike[str],
    app: App,
    bundle: Bundle,
    texts: Mapping[str, bytes],
    *,
    system: Literal["android", "ios"],
    bundle_folder: str | None,
    made: Collection[str],
    programs: Collection[str] = (),
    force: bool = False,
    on_progress: Report | None = None,
) -> AppProject:
    """Write a project to `out`.

    Args:
        texts: its files by path. programs: those of them that can be executed.
        bundle_folder: where in it the bundle is copied; None: nowhere.
        made: names of what other tools put into a project and make again (build folders); `force` loses them.
        force: replace another project, or one that has been changed.
        on_progress: called with ("copy", bytes written, bytes in all).

    Raises:
        EdgeLLMError: something else is at `out`, or it cannot be written. BundleError: the bundle is damaged.
    """
    place = Path(out).expanduser().resolve()
    check_place(place, bundle.path)
    copied = {} if bundle_folder is None else _bundle_files(bundle, bundle_folder)
    files = [ProjectFile(path, len(data), hashlib.sha256(data).hexdigest()) for path, data in texts.items()]
    files += [ProjectFile(path, entry.bytes, entry.sha256) for path, entry in copied.items()]
    project = Project(
        format=FORMAT_VERSION,
        edgellm=__version__,
        system=system,
        id=app.id,
        name=app.name,
        version=str(app.version),
        model=bundle.manifest.source.name,
        bundle=bundle_folder,
        files=tuple(sorted(files, key=lambda file: file.path)),
    )
    text = msgspec.json.format(msgspec.json.encode(project), indent=1) + b"\n"
    unchanged = _stands(place, project, text, made)
    written = AppProject(place, project, app, unchanged, sizes(bundle), memory_bytes(bundle))
    if unchanged:
        return written
    _check_free(place, system, made, force=force)
    texts = {**texts, PROJECT_NAME: text}
    write_folder(place, "the project", bundle, texts, copied, programs=programs, on_progress=on_progress)
    return written


def read_project(path: Path) -> Project | None:
    """The list of the project at `path`; None if that is no project of this format."""
    status = plain_file(path, PROJECT_NAME)
    if isinstance(status, str) or status.st_size > MAX_MANIFEST_BYTES:
        return None
    try:
        project = msgspec.json.decode((path / PROJECT_NAME).read_bytes(), type=Project)
    except (OSError, msgspec.MsgspecError, RecursionError):
        return None
    return project if project.format == FORMAT_VERSION else None


def changed_files(path: Path, project: Project) -> list[str]:
    """Paths of the project's files that are missing or have other contents."""
    return [
        file.path
        for file in project.files
        if check_file(path, FileEntry(file.path, file.bytes, file.sha256)) is not None
    ]


def foreign_files(path: Path, project: Project, made: Collection[str]) -> list[str]:
    """Paths of files and links at `path` that the project does not list, without those in `made`, sorted."""
    listed = {PROJECT_NAME, *(file.path for file in project.files)}
    found = []
    for parent, folders, names in os.walk(path):
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        folders[:] = [
            name for name in folders if not is_made(name, made) or _holds(parent, name, path, listed)
        ]
        found += [(Path(parent) / name).relative_to(path).as_posix() for name in (*names, *links)]
    return sorted(name for name in found if name not in listed and not is_made(name.rpartition("/")[2], made))


def _holds(parent: str, name: str, path: Path, listed: Iterable[str]) -> bool:
    """Whether a folder holds files of the project."""
    folder = (Path(parent) / name).relative_to(path).as_posix() + "/"
    return any(one.startswith(folder) for one in listed)


def _bundle_files(bundle: Bundle, folder: str) -> dict[str, FileEntry]:
    manifest = (bundle.path / MANIFEST_NAME).read_bytes()
    own = FileEntry(MANIFEST_NAME, len(manifest), hashlib.sha256(manifest).hexdigest())
    return {f"{folder}/{entry.path}": entry for entry in (own, *bundle.manifest.files)}


def _stands(place: Path, project: Project, text: bytes, made: Collection[str]) -> bool:
    """Whether this very project is at `place`; what other tools made there does not count."""
    if not isinstance(status := plain_file(place, PROJECT_NAME), os.stat_result):
        return False
    if status.st_size != len(text) or (place / PROJECT_NAME).read_bytes() != text:
        return False
    return not changed_files(place, project) and not foreign_files(place, project, made)


def _check_free(place: Path, system: str, made: Collection[str], *, force: bool) -> None:
    """Whether `place` is free: nothing is there, or with `force` a project and nothing else."""
    if not place.exists():
        return
    if not place.is_dir():
        raise EdgeLLMError(f"{place} exists and is a file; choose another --out")
    if not any(place.iterdir()):
        return
    project = read_project(place)
    if project is None or project.system != system:
        raise EdgeLLMError(f"{place} exists and is not such a project of edgellm; choose another --out")
    if foreign := foreign_files(place, project, made):
        raise EdgeLLMError(
            f"{place} holds files that edgellm did not write ({foreign[0]}), so it is not replaced; move "
            "them away or choose another --out"
        )
    if force:
        return
    if changed := changed_files(place, project):
        raise EdgeLLMError(
            f"{place} holds a project that has been changed ({changed[0]}); --force writes it anew and loses "
            "the changes, or choose another --out"
        )
    raise EdgeLLMError(f"{place} holds another project; --force replaces it, or choose another --out")

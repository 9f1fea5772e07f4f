"""An aarch64 Python for qemu: Debian's packages, and the wheels that edgellm needs there to run a bundle.

Prepared once and kept (about 250 MB): nothing of this system is changed.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

EMULATOR = "qemu-aarch64-static"
_REPOSITORY = Path(__file__).resolve().parents[2]
_RECIPE = "1"
"""Changes when what is done here does."""
_DEBS = ("python3-minimal", "libpython3-stdlib", "libstdc++6")
_PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")
_COMPILERS = ("ziglang",)
"""What building needs and running does not."""
_COMPILER_LIBRARY = "tvm/lib/libtvm_compiler.so"
_KEPT = "[0-9a-f]" * 16
_SECONDS = 240


class NotPreparedError(Exception):
    """The sysroot could not be made; the message says what failed."""


@dataclass(frozen=True)
class Sysroot:
    """The folders of a prepared sysroot, and the Python in it."""

    folder: Path

    def run(
        self, arguments: Sequence[str], *, processor: str = "max", environment: dict[str, str] | None = None,
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """Run the aarch64 Python with `arguments` on an emulated `processor` (`-cpu help` lists them)."""
        command = [EMULATOR, "-cpu", processor, "-L", str(self.folder / "root"), str(python_in(self.folder))]
        path = os.pathsep.join([str(self.folder / "site"), str(_REPOSITORY)])
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "TVM_", "EDGELLM_"))}
        return subprocess.run(
            [*command, *arguments], capture_output=True, text=True, timeout=timeout, check=False,
            env=inherited | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"} | (environment or {}),
        )  # fmt: skip


def sysroot(parent: Path) -> Sysroot:
    """The sysroot in folder `parent`, made if it is not there. Older ones leave.

    Raises:
        NotPreparedError: a tool is missing or a download failed.
    """
    wanted = requirements()
    key = hashlib.sha256("\n".join([_RECIPE, *_DEBS, *_PLATFORMS, *wanted]).encode()).hexdigest()[:16]
    folder = parent / key
    if not folder.exists():
        for old in parent.glob(_KEPT):
            shutil.rmtree(old, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=parent) as work:
            made = Path(work) / "made"
            _unpack_debs(Path(work), made / "root")
            _install_wheels(made, wanted)
            with suppress(FileExistsError):  # another run was quicker
                made.rename(folder)
    return Sysroot(folder)


def requirements() -> list[str]:
    """What running a bundle of the TVM backend needs, in the versions that are installed here."""
    found = []
    for line in importlib.metadata.requires("edgellm") or []:
        name, _, marker = line.partition(";")
        name = re.split(r"[^A-Za-z0-9._-]", name.strip())[0]
        if name not in _COMPILERS and (not marker or re.search(r"extra == ['\"]tvm['\"]", marker)):
            found.append(f"{name}=={importlib.metadata.version(name)}")
    return sorted(found)


def python_in(folder: Path) -> Path:
    """The interpreter of the sysroot."""
    return next((folder / "root" / "usr" / "bin").glob("python3.[0-9]*"))


def _unpack_debs(work: Path, root: Path) -> None:
    """Let apt choose and fetch the packages as on an arm64 system without any, with state of its own."""
    state = work / "apt"
    for name in ("state", "lists/partial", "cache/archives/partial"):
        (state / name).mkdir(parents=True)
    (state / "status").touch()
    settings = {
        "APT::Architecture": "arm64", "APT::Architectures": "arm64", "APT::Sandbox::User": "",
        "Dir::State": state / "state", "Dir::State::Lists": state / "lists",
        "Dir::State::Status": state / "status", "Dir::Cache": state / "cache",
    }  # fmt: skip
    config = state / "apt.conf"
    config.write_text("".join(f'{key} "{value}";\n' for key, value in settings.items()))
    apt = ["apt-get", "-qq", "-c", str(config)]
    _run([*apt, "update"])
    _run([*apt, "install", "--yes", "--download-only", "--no-install-recommends", *_DEBS])
    root.mkdir(parents=True)
    for package in sorted((state / "cache" / "archives").glob("*.deb")):
        _run(["dpkg-deb", "--extract", str(package), str(root)])


def _install_wheels(made: Path, wanted: Sequence[str]) -> None:
    version = python_in(made).name.removeprefix("python")
    platforms = [f"--platform={name}" for name in _PLATFORMS]
    _run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--only-binary=:all:",
         f"--target={made / 'site'}", f"--python-version={version}", "--implementation=cp", *platforms,
         *wanted]
    )  # fmt: skip
    # Running must do without the compiler, which is most of the size.
    (made / "site" / _COMPILER_LIBRARY).unlink()


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotPreparedError(f"{command[0]} could not run: {error}") from None
    if done.returncode:
        raise NotPreparedError(f"{' '.join(command[:4])} … failed: {done.stderr.strip()[-500:]}")

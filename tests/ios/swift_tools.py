"""Swift's tools: installed here, or in a folder with Debian's packages that make_swift_root.sh has made."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PATIENCE_S = 500
_PLACES = "/usr/libexec/swift/bin:/usr/local/bin:/usr/bin:/bin"
_ENTER = """
set -eu
root=$1; shift
mount --rbind /proc "$root/proc"
mount --rbind /dev "$root/dev"
while [ "$1" != -- ]; do mkdir -p "$root$1"; mount --rbind "$1" "$root$1"; shift; done
shift
exec chroot "$root" /bin/sh -c "$1"
"""


@dataclass(frozen=True)
class Swift:
    """Runs Swift's tools. `root`: where their system is; None: they are installed here."""

    root: Path | None

    def run(
        self, command: Sequence[str | Path], folder: Path, settings: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in `folder`; it sees that, the repository, and what else lies beside `folder`."""
        own = {"PATH": _PLACES, "HOME": str(folder), "LANG": "C.UTF-8", **(settings or {})}
        called = [str(part) for part in command]
        if self.root is None:
            outside = os.environ | own | {"PATH": f"{os.environ['PATH']}:{_PLACES}"}
        else:
            words = [f"{name}={value}" for name, value in own.items()]
            line = f"cd {shlex.quote(str(folder))} && exec env -i {shlex.join(words)} {shlex.join(called)}"
            outside = dict(os.environ)
            shared = [str(REPOSITORY), str(folder.parent), "--", line]
            called = [
                *("unshare", "--mount", "--propagation", "private"),
                *("sh", "-c", _ENTER, "sh", str(self.root), *shared),
            ]
        return subprocess.run(
            called, cwd=folder, env=outside, capture_output=True, text=True,
            timeout=PATIENCE_S, check=False,
        )  # fmt: skip


def swift_tools() -> Swift:
    """Those that are here; the test is skipped, with the reason, where there are none."""
    if chosen := os.environ.get("EDGELLM_SWIFT_ROOT"):
        root = Path(chosen).resolve()
        assert (root / "usr/bin/swiftc").exists(), f"EDGELLM_SWIFT_ROOT={chosen} has no usr/bin/swiftc"
        return Swift(root)
    if shutil.which("swiftc") is None:
        pytest.skip(
            "swiftc is not installed: apt install swiftlang on Debian 13; elsewhere "
            "tests/ios/make_swift_root.sh DIR, and EDGELLM_SWIFT_ROOT=DIR"
        )
    return Swift(None)

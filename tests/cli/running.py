"""Run the command line in a process of its own, as a user does."""

from __future__ import annotations

import subprocess
import sys


def edgellm(
    *arguments: object, stdin: str | None = None, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """`edgellm ARGUMENTS`; standard input is empty unless given."""
    return subprocess.run(
        [sys.executable, "-m", "edgellm", *map(str, arguments)],
        input=stdin if stdin is not None else "",
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )

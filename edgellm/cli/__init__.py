"""The command line. A command's module is imported only when that command runs or shows its help."""

from __future__ import annotations

import sys

from edgellm.cli.group import cli, run

__all__ = ["cli", "main"]


def main() -> None:
    """Entry point of the `edgellm` script."""
    sys.exit(run(sys.argv[1:]))

"""`python -m edgellm`: the same as the `edgellm` script."""

from __future__ import annotations

from edgellm.cli import main

main()

"""The bundle: what `edgellm build` writes and everything else runs. docs/bundle.md describes the format."""

from __future__ import annotations

from edgellm.bundle.bundle import Bundle
from edgellm.bundle.codec import read_manifest
from edgellm.bundle.verify import Problem, verify
from edgellm.bundle.writer import BundleWriter

__all__ = ["Bundle", "BundleWriter", "Problem", "read_manifest", "verify"]

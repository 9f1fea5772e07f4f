"""Backends by name. A backend's module is imported only when that backend is used."""

from __future__ import annotations

import importlib

from edgellm.backends.base import Backend, BuildPlan, Built, LoadOptions, Progress
from edgellm.errors import UnsupportedError

__all__ = ["BACKENDS", "Backend", "BuildPlan", "Built", "LoadOptions", "Progress", "get_backend"]

BACKENDS = ("ctranslate2", "tvm")


def get_backend(name: str) -> Backend:
    """The backend called `name`; UnsupportedError names the known ones otherwise."""
    if name not in BACKENDS:
        raise UnsupportedError(f"no backend is called {name!r} in this version; known: {', '.join(BACKENDS)}")
    backend: Backend = importlib.import_module(f"edgellm.backends.{name}").backend
    return backend

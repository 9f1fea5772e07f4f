"""Imports point one way, as CONTRIBUTING.md says, and reading a bundle never imports the compiler half."""

from __future__ import annotations

import ast
from pathlib import Path

import edgellm

PACKAGE = Path(edgellm.__file__).parent

# Each layer may import itself and what stands after it.
MAY_IMPORT = {
    "errors": set(),
    "units": set(),
    "resources": set(),
    "cpuid": set(),
    "machine": {"errors", "units", "cpuid"},
    "cuda_driver": set(),
    "adapters": {"errors", "units", "machine", "cuda_driver"},
    "bundle": {"errors", "units", "text"},
    "text": {"errors", "units", "bundle"},
    "quantize": {"errors", "units"},
    "checkpoint": {"errors", "units", "resources", "bundle", "text", "quantize"},
    "compile": {"errors", "units", "bundle", "quantize"},
    "backends": {
        *("errors", "units", "machine", "cuda_driver", "adapters", "resources", "bundle", "text", "quantize"),
        "compile",
    },
    "engine": {"errors", "units", "bundle", "text", "backends"},
    "server": {"errors", "units", "bundle", "text", "backends", "engine"},
    "package": {"errors", "units", "resources", "bundle", "text"},
    "evaluation": {"errors", "bundle", "text", "checkpoint", "backends", "builder"},
    "bench": {
        *("errors", "units", "machine", "adapters", "quantize", "bundle", "checkpoint", "compile"),
        *("backends", "engine"),
    },
}


def imports(file: Path) -> set[str]:
    """Top-level parts of edgellm that a file imports when it runs (not just for type checkers)."""
    tree = ast.parse(file.read_text("utf-8"))
    typing_only = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("edgellm."):
            found.add((node.module or "").split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("edgellm.")}
    return found


def test_imports_point_one_way() -> None:
    wrong = []
    for layer, allowed in MAY_IMPORT.items():
        folder = PACKAGE / layer
        files = sorted(folder.rglob("*.py")) if folder.is_dir() else [PACKAGE / f"{layer}.py"]
        assert files, layer
        for file in files:
            wrong += [f"{file.name}: {layer} imports {name}" for name in imports(file) - allowed - {layer}]
    assert not wrong


def test_the_engine_names_no_backend() -> None:
    from edgellm.backends import BACKENDS

    for file in (PACKAGE / "engine").glob("*.py"):
        assert not any(name in file.read_text("utf-8") for name in BACKENDS), file

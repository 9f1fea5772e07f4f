"""edgellm: language models on the devices people already have.

    import edgellm
    bundle = edgellm.build("models/demo", target="native")
    with edgellm.Engine(bundle) as engine:
        for text in engine.stream("What is a bundle?", max_tokens=64):
            print(text, end="")

Names are imported on first use, so that `import edgellm` and `edgellm --help` stay fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from edgellm.builder import build as build
    from edgellm.bundle import Bundle as Bundle
    from edgellm.engine import Engine as Engine
    from edgellm.engine import SamplingParams as SamplingParams
    from edgellm.errors import EdgeLLMError as EdgeLLMError

__all__ = ["Bundle", "EdgeLLMError", "Engine", "SamplingParams", "__version__", "build"]

_HOMES = {
    "Bundle": "edgellm.bundle",
    "EdgeLLMError": "edgellm.errors",
    "Engine": "edgellm.engine",
    "SamplingParams": "edgellm.engine",
    "build": "edgellm.builder",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module 'edgellm' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)

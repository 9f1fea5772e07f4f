"""CTranslate2: int8 and fp32 on x86-64 and ARM processors, whole requests at a time."""

from __future__ import annotations

from edgellm.backends.ctranslate2.backend import backend

__all__ = ["backend"]

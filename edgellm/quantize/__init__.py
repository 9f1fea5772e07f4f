"""Quantization schemes, one file each; every backend stores the same numbers."""

from __future__ import annotations

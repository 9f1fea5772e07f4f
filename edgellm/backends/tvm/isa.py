"""Which of a bundle's libraries this processor runs."""

from __future__ import annotations

import os
import platform
from collections.abc import Collection, Sequence

from edgellm.errors import UnsupportedError, UsageError
from edgellm.machine import read_cpu

FORCE = "EDGELLM_ISA"
_AVX2 = frozenset({"AVX2", "FMA", "F16C"})
NEEDS: dict[str, frozenset[str]] = {
    "avx512vnni": _AVX2 | {"AVX-512F", "AVX-512BW", "AVX-512DQ", "AVX-512VL", "AVX-512-VNNI"},
    "avxvnni": _AVX2 | {"AVX-VNNI"},
    "avx2": _AVX2,
    "i8mm": frozenset({"NEON", "FP16", "dot product", "I8MM"}),
    "dotprod": frozenset({"NEON", "FP16", "dot product"}),
    "neon": frozenset({"NEON"}),
}
"""Features, as `edgellm.machine` names them, that each instruction set needs."""


_ARM = ("aarch64", "arm64")
"""What `platform.machine()` says on 64-bit Arm processors."""


def pick_isa(names: Sequence[str], features: Collection[str] | None = None) -> str:
    """The first of `names` (best first) that this processor has; `EDGELLM_ISA` forces one.

    Raises:
        UsageError: the forced one is not in the bundle, or the processor lacks it.
        UnsupportedError: the processor has none.
    """
    has = set(read_cpu().features if features is None else features)
    if forced := os.environ.get(FORCE):
        if forced not in names:
            raise UsageError(f"{FORCE} is {forced!r}; this bundle has code for {', '.join(names)}")
        if has and not NEEDS[forced] <= has:
            raise UsageError(
                f"{FORCE} is {forced!r}; this processor lacks {', '.join(sorted(NEEDS[forced] - has))}"
            )
        return forced
    for name in names:
        if NEEDS[name] <= has:
            return name
    least = names[-1]
    machine = platform.machine()
    if ("NEON" in NEEDS[least]) != (machine.lower() in _ARM):
        built = "64-bit Arm" if "NEON" in NEEDS[least] else "x86-64"
        raise UnsupportedError(
            f"this bundle has code for {built} processors and this machine's is {machine}; build the model "
            "again with --target native"
        )
    raise UnsupportedError(
        f"this processor lacks {', '.join(sorted(NEEDS[least] - has))}, which even the {least} code of this "
        "bundle needs; build with --backend ctranslate2 instead"
    )

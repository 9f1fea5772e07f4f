"""The instruction sets that a CPU bundle carries code for, best first.

A library is compiled for each; the one to load is chosen by `edgellm.backends.tvm.isa` from what the
processor has.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from edgellm.errors import UnsupportedError

DotKind = Literal["vnni", "maddubs", "smull", "sdot", "i8mm"]


@dataclass(frozen=True)
class Isa:
    """One instruction set.

    Attributes:
        name: as in `lib-<name>.so` and `EDGELLM_ISA`.
        triple, cpu, features: LLVM's names.
        bits: width of a vector register.
        dot: how int8 products are summed, see `kernels.dot` and, for Arm, `kernels.neon_tile`.
        rows, blocks: rows of activations and blocks of 16 outputs in one tile of a matrix product.
        few_rows: rows of a tile of one block of quantized weights, when all rows are few.
        vectors: sums of a tile that fit into registers beside what else it needs.
    """

    name: str
    triple: str
    cpu: str
    features: tuple[str, ...]
    bits: int
    dot: DotKind
    rows: int
    blocks: int
    few_rows: int
    vectors: int

    @property
    def lanes(self) -> int:
        """float32 numbers in a vector register."""
        return self.bits // 32

    def target(self) -> dict[str, object]:
        """The argument of `tvm.target.Target`."""
        return {
            "kind": "llvm", "mtriple": self.triple, "mcpu": self.cpu, "mattr": list(self.features),
            "num-cores": 8,
        }  # fmt: skip


_X86 = "x86_64-unknown-linux-gnu"
_CASCADE_LAKE = (
    # What icelake-server has more than the first processors with VNNI. Its tuning is what these kernels want.
    "-avx512vbmi", "-avx512vbmi2", "-avx512bitalg", "-avx512vpopcntdq", "-avx512ifma", "-gfni", "-vaes",
    "-vpclmulqdq", "-sha", "-rdpid", "-wbnoinvd", "-pconfig",
)  # fmt: skip
_V3 = ("+avx2", "+fma", "+f16c", "+bmi2")
X86_64 = (
    Isa(
        "avx512vnni", _X86, "icelake-server",
        (
            "+avx512f", "+avx512bw", "+avx512vl", "+avx512dq", "+avx512vnni", "-prefer-256-bit",
            *_CASCADE_LAKE,
        ),
        512, "vnni", 6, 2, 8, 12,
    ),
    Isa("avxvnni", _X86, "x86-64-v3", (*_V3, "+avxvnni"), 256, "vnni", 4, 1, 4, 8),
    Isa("avx2", _X86, "x86-64-v3", _V3, 256, "maddubs", 4, 1, 4, 4),
)  # fmt: skip
_ARM = "aarch64-unknown-linux-gnu"
_V82 = ("+neon", "+dotprod", "+fullfp16")
ARM64 = (
    Isa("i8mm", _ARM, "generic", (*_V82, "+i8mm"), 128, "i8mm", 8, 1, 8, 16),
    Isa("dotprod", _ARM, "generic", _V82, 128, "sdot", 6, 1, 6, 12),
    Isa("neon", _ARM, "generic", ("+neon",), 128, "smull", 4, 1, 4, 8),
)
ISAS = {"x86-64": X86_64, "arm64": ARM64}
_TRIPLES = {
    "x86-64": {"linux": _X86, "windows": "x86_64-pc-windows-gnu"},
    "arm64": {"linux": _ARM, "macos": "arm64-apple-macosx11.0"},
}
"""By target, the systems that TVM has a runtime for."""


def for_system(isa: Isa, target: str, system: str) -> Isa:
    """`isa` of a target with the object format and calling convention of linux, macos or windows.

    Raises:
        UnsupportedError: there is no TVM runtime for that target there; says for which systems there is.
    """
    triples = _TRIPLES[target]
    if system not in triples:
        raise UnsupportedError(
            f"TVM has no runtime for {target} on {system}; choose --system {' or '.join(triples)}, "
            "or --backend ctranslate2, whose bundles run on any system"
        )
    return replace(isa, triple=triples[system])


def default_system(target: str, here: str) -> str:
    """`here` (this machine's system) if the target has it, or else the first it has."""
    triples = _TRIPLES[target]
    return here if here in triples else next(iter(triples))

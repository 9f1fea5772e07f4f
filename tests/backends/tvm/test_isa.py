"""Which code a processor gets."""

from __future__ import annotations

import platform

import pytest

from edgellm.backends.tvm.isa import FORCE, NEEDS, pick_isa
from edgellm.compile.isa import ISAS
from edgellm.errors import EdgeLLMError, UnsupportedError, UsageError

ARM = [isa.name for isa in ISAS["arm64"]]
X86 = [isa.name for isa in ISAS["x86-64"]]


@pytest.mark.parametrize("names", [ARM, X86])
def test_the_best_that_the_processor_has(names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FORCE, raising=False)
    for name in names:
        assert pick_isa(names, NEEDS[name]) == name
    everything = frozenset().union(*(NEEDS[name] for name in names))
    assert pick_isa(names, everything) == names[0]
    assert all(set(NEEDS[name]) <= everything for name in names)


def test_forcing_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FORCE, "dotprod")
    assert pick_isa(ARM, NEEDS["i8mm"]) == "dotprod"
    assert pick_isa(ARM, ()) == "dotprod", "where nothing is known of the processor, it is the user's word"
    with pytest.raises(UsageError, match=r"lacks FP16, dot product$"):
        pick_isa(ARM, NEEDS["neon"])
    with pytest.raises(UsageError, match=r"'dotprod'.*avx512vnni, avxvnni, avx2"):
        pick_isa(X86, NEEDS["avx2"])


@pytest.mark.parametrize(
    ("machine", "names", "words"),
    [
        ("x86_64", ARM, "64-bit Arm .* x86_64; .*--target native"),
        ("arm64", X86, "x86-64 .* arm64; .*--target native"),
        ("x86_64", X86, "lacks AVX2, F16C, FMA, .*--backend ctranslate2"),
    ],
)
def test_none_fits(machine: str, names: list[str], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FORCE, raising=False)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    with pytest.raises(UnsupportedError, match=words) as caught:
        pick_isa(names, {"SSE4.1"} if machine == "x86_64" else NEEDS["i8mm"])
    assert isinstance(caught.value, EdgeLLMError) and "\n" not in str(caught.value)

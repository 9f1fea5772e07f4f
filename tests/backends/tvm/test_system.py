"""Libraries for other systems: linked here, and refused here in words that help."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgellm
from edgellm.backends.tvm import system
from edgellm.backends.tvm.system import check_system
from edgellm.compile.isa import ISAS, default_system, for_system
from edgellm.errors import BundleError, UnsupportedError


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """A kernel for each target and system that there is."""
    import tvm

    from edgellm.compile.kernels.matmul import MatmulShape, matmul
    from edgellm.compile.pipeline import _linker, compile_kernels

    folder, made = tmp_path_factory.mktemp("systems"), {}
    for target, name in (("x86-64", "linux"), ("x86-64", "windows"), ("arm64", "linux"), ("arm64", "macos")):
        isa = for_system(ISAS[target][-1], target, name)
        function = matmul(isa, MatmulShape(32, 128, 4), "f")
        executable = tvm.runtime.Executable(compile_kernels(tvm.IRModule({"f": function}), isa))
        made[target, name] = folder / f"{target}-{name}.so"
        executable.export_library(str(made[target, name]), fcompile=_linker(isa))
    return made


def test_each_system_gets_its_object_format(libraries: dict[tuple[str, str], Path]) -> None:
    data = {key: file.read_bytes() for key, file in libraries.items()}
    assert all(b"__tvm_ffi_f" in one for one in data.values())

    def number(key: tuple[str, str], at: int, size: int) -> int:
        return int.from_bytes(data[key][at : at + size], "little")

    # e_machine and e_type of ELF: x86-64, AArch64; a shared object.
    assert data["x86-64", "linux"][:4] == data["arm64", "linux"][:4] == b"\x7fELF"
    assert [number((one, "linux"), 18, 2) for one in ("x86-64", "arm64")] == [62, 183]
    assert number(("arm64", "linux"), 16, 2) == 3
    # Mach-O: 64 bits, arm64, a dylib, with a code signature (arm64 Macs run nothing without one).
    mac = ("arm64", "macos")
    assert [number(mac, at, 4) for at in (0, 4, 12)] == [0xFEEDFACF, 0x0100000C, 6]
    at, commands = 32, []
    for _ in range(number(mac, 16, 4)):
        commands.append(number(mac, at, 4))
        at += number(mac, at + 4, 4)
    assert 0x1D in commands
    # PE: x86-64, a DLL, which takes what it needs of the runtime from tvm_ffi.dll.
    windows = ("x86-64", "windows")
    header = number(windows, 0x3C, 4)
    assert data[windows][header : header + 4] == b"PE\0\0" and number(windows, header + 4, 2) == 0x8664
    assert number(windows, header + 22, 2) & 0x2000 and b"tvm_ffi.dll" in data[windows]


@pytest.mark.parametrize("here", ["linux", "macos", "windows"])
def test_a_library_of_another_system_is_refused(
    here: str, libraries: dict[tuple[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "system_name", lambda: here)
    for (_, name), file in libraries.items():
        if name == here:
            check_system(file)
            continue
        with pytest.raises(UnsupportedError, match=f"--system {here}$") as caught:
            check_system(file)
        assert system._TITLES[name] in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_no_library(tmp_path: Path) -> None:
    (tmp_path / "lib.so").write_bytes(np.arange(99, dtype=np.uint8).tobytes())
    for name in ("lib.so", "none.so"):
        with pytest.raises(BundleError, match=rf"{name} .*build the bundle again"):
            check_system(tmp_path / name)


def test_systems_without_a_runtime(tmp_path: Path) -> None:
    assert default_system("arm64", "macos") == "macos" and default_system("x86-64", "macos") == "linux"
    with pytest.raises(
        UnsupportedError, match=r"x86-64 on macos; choose --system linux or windows.*ctranslate2"
    ):
        edgellm.build("demo", "x86-64", quant="int4", system="macos", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()

"""Listing and choosing graphics adapters: those of this machine, and others made of what drivers report."""

from __future__ import annotations

import inspect
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgellm import adapters
from edgellm.adapters import Adapter, AdapterLimits, choose_adapter, list_adapters, memory, sources
from edgellm.errors import MissingDependencyError, UnsupportedError
from edgellm.machine import Memory
from edgellm.targets import fitting_target, get_target, with_kernels
from tests.support import require

LIMITS = AdapterLimits(1 << 31, 1 << 27, 256, 16384, 8, 65535)
CARD = Adapter("Radeon RX 7800 XT", "wgpu", "Vulkan", "discrete", "radv", 0x1002, True, LIMITS, None, None)
INSIDE = replace(CARD, name="Intel(R) UHD 770", kind="integrated", vendor_id=0x8086, driver="Mesa", number=1)
SOFTWARE = replace(CARD, name="llvmpipe (256 bits)", kind="software", vendor_id=0x10005, driver="", number=2)


def test_this_machines_adapters() -> None:
    for module in ("wgpu", "pyopencl"):
        require(module=module, reason="it lists adapters: pip install 'edgellm[gpu,opencl]'")
    found = list_adapters()
    assert [one.number for one in found] == list(range(len(found)))
    order = [("discrete", "integrated", "other", "software").index(one.kind) for one in found]
    assert order == sorted(order)
    for one in found:
        assert one.name and one.limits.buffer_bytes >= one.limits.binding_bytes >= 128 << 20
        assert one.limits.threads >= 256 and one.limits.shared_bytes >= 16384
        assert fitting_target(one) is None or one.kind != "software"


def test_nothing_is_imported_before_somebody_asks() -> None:
    code = (
        "import sys, edgellm, edgellm.adapters, edgellm.cli.doctor, edgellm.backends.plan.open\n"
        "print({'wgpu', 'pyopencl'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


def test_listing_says_nothing_on_the_terminal() -> None:
    require(module="wgpu", reason="it lists adapters: pip install 'edgellm[gpu]'")
    code = "from edgellm.adapters import list_adapters; list_adapters()"
    environment = {name: value for name, value in os.environ.items() if name != "XDG_RUNTIME_DIR"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_listing_that_fails_is_an_empty_list(tmp_path: Path) -> None:
    for name in ("wgpu", "pyopencl"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('no driver')\n")
    code = "from edgellm.adapters import installed, list_adapters; print(installed(), list_adapters())"
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[1]}"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout == "['wgpu', 'opencl'] []\n", done.stderr


def test_directx_gets_the_compiler_that_knows_fp16(monkeypatch: pytest.MonkeyPatch) -> None:
    require(module="wgpu", reason="it lists adapters: pip install 'edgellm[gpu]'")
    from wgpu.backends.wgpu_native import extras

    logger = logging.getLogger("wgpu")
    asked: dict[str, object] = {}
    real = inspect.signature(extras.set_instance_extras)
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(extras, "set_instance_extras", lambda **all: asked.update(real.bind(**all).arguments))
    sources.import_wgpu()
    assert asked == {"backends": ("Vulkan", "DX12"), "dx12_compiler": "Dxc"}


def test_a_driver_that_fails_hides_no_other_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def describe(number: int) -> Adapter:
        if number == 1:
            raise RuntimeError("device lost\n  while it was asked")
        return replace(CARD, name=f"card {number}")

    def opencl(failed: Callable[[str], object]) -> list[Adapter]:
        raise RuntimeError("no ICD")

    listings = {"wgpu": lambda failed: sources._each(describe, range(3), failed), "opencl": opencl}
    monkeypatch.setattr(adapters, "LISTINGS", listings)
    monkeypatch.setattr(adapters, "installed", lambda: list(listings))
    failures: list[str] = []
    assert [one.name for one in list_adapters(failed=failures.append)] == ["card 0", "card 2"]
    assert failures == ["wgpu: device lost while it was asked", "pyopencl: no ICD"]
    with pytest.raises(UnsupportedError, match=r"failed \(wgpu: device lost .*; pyopencl: no ICD\); install"):
        choose_adapter([], failures=failures)


@pytest.fixture
def _both_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "installed", lambda: ["wgpu", "opencl"])
    monkeypatch.delenv("EDGELLM_ADAPTER", raising=False)


@pytest.mark.usefixtures("_both_installed")
def test_the_best_gpu_is_chosen_and_others_by_name_or_number(monkeypatch: pytest.MonkeyPatch) -> None:
    every = [CARD, INSIDE, SOFTWARE]
    assert choose_adapter(every) is CARD
    assert choose_adapter(every, "1") is INSIDE
    assert choose_adapter(every, "uhd") is INSIDE
    monkeypatch.setenv("EDGELLM_ADAPTER", "LLVMpipe")
    assert choose_adapter(every) is SOFTWARE
    assert choose_adapter(every, "radeon") is CARD
    with pytest.raises(
        UnsupportedError, match=r"called 'arc'; there are 0: Radeon .* 1: Intel.* 2: llvmpipe"
    ):
        choose_adapter(every, "arc")


@pytest.mark.usefixtures("_both_installed")
def test_software_is_never_chosen_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnsupportedError, match=r"no GPU was found, only software .*EDGELLM_ADAPTER=llvmpipe"):
        choose_adapter([SOFTWARE])
    assert choose_adapter([SOFTWARE], "llvmpipe") is SOFTWARE
    with pytest.raises(UnsupportedError, match=r"no GPU .* was found; install its driver"):
        choose_adapter([])
    monkeypatch.setattr(adapters, "installed", lambda: ["wgpu"])
    with pytest.raises(UnsupportedError, match=r"pip install 'edgellm\[opencl\]' to look in another way"):
        choose_adapter([])
    monkeypatch.setattr(adapters, "installed", list)
    with pytest.raises(MissingDependencyError, match=r"pip install 'edgellm\[gpu\]'"):
        choose_adapter([])


def test_the_target_that_fits_has_a_program_that_runs() -> None:
    def fitting(vendor: int = 1, **facts: Any) -> str | None:
        adapter = replace(CARD, vendor_id=vendor, **facts)
        if name := fitting_target(adapter):
            name, _, kernels = name.partition(" --kernels ")
            device = with_kernels(get_target(name), kernels or None).device
            assert device is not None and adapter.runs(device.programs)
        return fitting_target(adapter)

    metal, opencl, cuda = (
        {"through": t, "api": a} for t, a in (("wgpu", "Metal"), ("opencl", "OpenCL"), ("cuda", "CUDA"))
    )
    assert (fitting(0x1002), fitting(0x8086), fitting(0x10DE)) == ("amd-gpu", "intel-gpu", "nvidia-gpu")
    assert fitting(0x10DE, **cuda) == "nvidia-gpu --kernels cuda"
    assert fitting(0, name="Apple M2 Pro", **metal) == "apple-gpu"
    assert fitting(0x1027F00, name="Apple M2", **opencl) is None, "its programs are WGSL and Metal"
    assert (fitting(0x13B5, **opencl), fitting(0x5143, **opencl)) == ("mali", "adreno")
    assert (fitting(0x13B5), fitting(0x5143, api="D3D12")) == ("webgpu", "webgpu"), "theirs are in OpenCL C"
    assert (fitting(), fitting(**opencl), fitting(kind="software")) == ("webgpu", None, None)


def test_memory_that_is_the_machines_is_not_taken_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    def shared(available: int, platform: str = "linux") -> tuple[int | None, int | None]:
        monkeypatch.setattr(memory, "read_memory", lambda: Memory(18 << 30, available))
        monkeypatch.setattr(sys, "platform", platform)
        return memory.memory_of("integrated", "UHD", 0x8086, 0)

    assert shared(16 << 30) == (9 << 30, 9 << 30)
    assert shared(4 << 30) == (9 << 30, 4 << 30)
    assert shared(16 << 30, "darwin") == (12 << 30, 12 << 30)
    assert memory.memory_of("software", "llvmpipe", 0, 0) == (18 << 30, 16 << 30)


def test_opencl_tells_the_memory_of_a_card_that_vulkan_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    twin = replace(CARD, name="gfx1101", through="opencl", api="OpenCL", memory=8 << 30, free=6 << 30)
    monkeypatch.setattr(adapters, "LISTINGS", {"wgpu": lambda _: [CARD, INSIDE], "opencl": lambda _: [twin]})
    monkeypatch.setattr(adapters, "installed", lambda: ["wgpu", "opencl"])
    assert [(one.memory, one.free) for one in list_adapters()] == [(8 << 30, 6 << 30)] * 2 + [(None, None)]


def test_memory_of_cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, (vendor, device, total) in enumerate(((0x8086, 0x4680, None), (0x1002, 0x747E, 16 << 30))):
        folder = tmp_path / f"card{number}" / "device"
        folder.mkdir(parents=True)
        (folder / "vendor").write_text(f"{vendor:#06x}\n")
        (folder / "device").write_text(f"{device:#06x}\n")
        if total:
            (folder / "mem_info_vram_total").write_text(f"{total}\n")
            (folder / "mem_info_vram_used").write_text(f"{1 << 30}\n")
    assert memory._drm_memory(0x1002, 0x747E, tmp_path) == (16 << 30, 15 << 30)
    assert memory._drm_memory(0x1002, 1, tmp_path) == (None, None)
    assert memory._drm_memory(0x8086, 0x4680, tmp_path) == (None, None)
    said = "NVIDIA RTX A2000, 12282, 11000\nNVIDIA GeForce RTX 4090, 24564, 24000\n"
    monkeypatch.setattr(memory, "run", lambda *command: said)
    assert memory._nvidia_memory("NVIDIA GeForce RTX 4090") == (24564 << 20, 24000 << 20)
    assert memory._nvidia_memory("NVIDIA H200") == (None, None)

"""The target files, and the pick: data, checked against the rule that reads it."""

from __future__ import annotations

import platform
import tomllib
from pathlib import Path

import msgspec
import pytest

from edgellm.backends import BACKENDS
from edgellm.bundle.model_config import Rope
from edgellm.cli.package import package
from edgellm.errors import UnsupportedError
from edgellm.targets import PACKAGES, get_target, load_targets, native_target, pick, with_kernels
from tests.bundle.example import manifest

LLAMA = manifest().model
QUANTS = {"int4", "int8", "fp16", "fp32"}


def refusal(name: str, **options: str) -> str:
    with pytest.raises(UnsupportedError) as caught:
        pick(get_target(name), LLAMA, 512, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_all_ten_are_there_and_consistent() -> None:
    targets = load_targets()
    assert set(targets) == {
        "x86-64", "arm64", "intel-gpu", "amd-gpu", "nvidia-gpu", "apple-gpu", "apple-iphone", "adreno",
        "mali", "webgpu",
    }  # fmt: skip
    for target in targets.values():
        assert target.backends and target.title and target.devices
        offered = {quant for backend in target.backends for quant in backend.quants}
        assert target.default_quant in offered <= QUANTS
        assert len({backend.name for backend in target.backends}) == len(target.backends)
    machines = [machine for target in targets.values() for machine in target.machines]
    assert set(PACKAGES) == {name for name, one in targets.items() if one.kind in ("phone", "browser")}
    assert set(PACKAGES.values()) == set(package.commands)
    assert len(machines) == len(set(machines)) and machines == [machine.lower() for machine in machines]


@pytest.mark.parametrize(
    ("machine", "name"),
    [("x86_64", "x86-64"), ("AMD64", "x86-64"), ("aarch64", "arm64"), ("arm64", "arm64")],
)
def test_native(machine: str, name: str) -> None:
    assert native_target(machine).name == name


def test_native_is_this_machine_or_refused() -> None:
    assert platform.machine().lower() in get_target("native").machines
    with pytest.raises(UnsupportedError, match=r"riscv64.*arm64"):
        native_target("riscv64")


def test_the_default_pick() -> None:
    chosen = pick(get_target("arm64"), LLAMA, 512)
    assert (chosen.backend, chosen.quant) == ("ctranslate2", "int8")
    assert "first backend" in chosen.reason and "\n" not in chosen.reason
    assert pick(get_target("x86-64"), LLAMA, 512, quant="fp32").quant == "fp32"
    assert "asked for" in pick(get_target("x86-64"), LLAMA, 512, backend="ctranslate2").reason


def test_a_backend_that_is_not_installed_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgellm.backends import get_backend

    target = get_target("x86-64")
    for missing, first in ((None, "tvm"), ("install it", "ctranslate2")):
        monkeypatch.setattr(type(get_backend("tvm")), "missing", lambda self, said=missing: said)
        monkeypatch.setattr(type(get_backend("ctranslate2")), "missing", lambda self: None)
        assert pick(target, LLAMA, 512).backend == first
    assert "tvm comes first and is not installed" in pick(target, LLAMA, 512).reason
    assert pick(target, LLAMA, 512, quant="int4").backend == "tvm"
    # With nothing installed, what to install is the first.
    monkeypatch.setattr(type(get_backend("ctranslate2")), "missing", lambda self: "install it")
    assert pick(target, LLAMA, 512).backend == "tvm"


GPUS = [name for name, target in load_targets().items() if target.kind != "cpu"]


@pytest.mark.parametrize("name", GPUS)
def test_gpu_targets_say_their_programs_and_limits(name: str) -> None:
    """And docs/plan.md says the same programs."""
    device = get_target(name).device
    assert device is not None
    table = (Path(__file__).resolve().parents[1] / "docs" / "plan.md").read_text()
    [row] = [line for line in table.splitlines() if line.startswith("| ") and f"`{name}`" in line]
    assert row.endswith(f"| {', '.join(device.programs)} |")
    chosen = pick(get_target(name), LLAMA, 512)
    assert (chosen.backend, chosen.quant) == ("tvm", "int4")
    odd = msgspec.structs.replace(LLAMA, hidden_size=LLAMA.hidden_size + 8)
    with pytest.raises(UnsupportedError, match="hidden_size"):
        pick(get_target(name), odd, 512)


def test_kernels_by_name() -> None:
    target = get_target("nvidia-gpu")
    assert with_kernels(target, None) is with_kernels(target, "portable") is target
    device = with_kernels(target, "cuda").device
    assert device is not None and device.programs == ("cuda-fp16", "cuda-fp32")
    assert device.limits.shared_bytes > 16384 and target.device != device
    for name, kernels, says in (
        ("nvidia-gpu", "sass", r"nvidia-gpu has no kernels 'sass'; it has portable and cuda$"),
        ("webgpu", "cuda", r"webgpu has no kernels 'cuda'; it has portable; cuda is for nvidia-gpu$"),
        ("x86-64", "cuda", r"'cuda'; a processor has only one kind; cuda is for nvidia-gpu$"),
        ("x86-64", "portable", r"'portable'; a processor has only one kind$"),
    ):
        with pytest.raises(UnsupportedError, match=says):
            with_kernels(get_target(name), kernels)


def test_refusals_say_what_works() -> None:
    assert "int4, int8, fp16, fp32" in refusal("x86-64", quant="int3")
    assert "int8, fp32, int4, fp16" in refusal("arm64", quant="int3")
    assert "it has tvm and ctranslate2" in refusal("x86-64", backend="cuda")
    with pytest.raises(UnsupportedError, match=r"toaster.*native.*webgpu"):
        get_target("toaster")


def test_a_backends_own_refusal_is_passed_on() -> None:
    odd = msgspec.structs.replace(LLAMA, qk_norm=True, rope=Rope(theta=1e4, dim=LLAMA.head_dim // 2))
    with pytest.raises(UnsupportedError, match="partial_rotary_factor"):
        pick(get_target("x86-64"), odd, 512, backend="ctranslate2")
    assert pick(get_target("x86-64"), odd, 512).backend == "tvm"


def test_the_files_are_plain_toml_with_known_backends() -> None:
    for file in (Path(__file__).resolve().parents[1] / "targets").glob("*.toml"):
        names = [backend["name"] for backend in tomllib.loads(file.read_text())["backends"]]
        assert set(names) <= set(BACKENDS), file

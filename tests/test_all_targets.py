"""The demo model for every target, on a machine that need not have the device: whole, and the same bytes when
compiled anew. Bundles whose programs something here runs are then asked a question.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from edgellm.bundle import Bundle
from edgellm.cli.group import cli
from edgellm.compile.isa import ISAS
from edgellm.targets import PACKAGES, load_targets
from tests.backends.plan.models import adapter_number
from tests.cli.running import edgellm
from tests.support import require

DEMO = Path(__file__).parents[1] / "models" / "demo"


def build_all(folder: Path) -> dict[str, Path]:
    """`edgellm build` for all targets."""
    for module in ("tvm", "ziglang", "ctranslate2"):
        require(module=module, reason="it is what bundles are built with: pip install 'edgellm[cpu]'")
    built = {}
    for name in load_targets():
        built[name] = folder / name
        arguments = ["build", str(DEMO), "--target", name, "--out", str(built[name])]
        done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        command = f"package {PACKAGES[name]}" if name in PACKAGES else "chat"
        assert f"Next: edgellm {command} {built[name]}" in done.output
    return built


def contents(bundle: Path) -> dict[str, bytes]:
    """Every file of a bundle."""
    files = (file for file in bundle.rglob("*") if file.is_file())
    return {file.relative_to(bundle).as_posix(): file.read_bytes() for file in files}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """For each target. What is compiled may come from the cache of this run of the tests."""
    return build_all(tmp_path_factory.mktemp("targets"))


@pytest.mark.timeout(900)
def test_all_targets_build_whole_and_the_same_twice(
    bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second time with an empty cache, so that everything is compiled anew."""
    assert len(bundles) == 10
    monkeypatch.setenv("EDGELLM_CACHE", str(tmp_path / "cache"))
    again = build_all(tmp_path)
    compiled = {folder.name: len(list(folder.iterdir())) for folder in (tmp_path / "cache").iterdir()}
    devices = [target.device for target in load_targets().values() if target.device is not None]
    programs = {(device.limits, program) for device in devices for program in device.programs}
    assert compiled == {"libraries": len(ISAS["x86-64"]), "programs": len(programs)}
    for name, bundle in bundles.items():
        assert CliRunner().invoke(cli, ["verify", str(bundle)]).exit_code == 0, name
        assert Bundle.open(bundle).manifest.target == name
        first, second = contents(bundle), contents(again[name])
        assert first.keys() == second.keys()
        assert [file for file in first if first[file] != second[file]] == [], name


def ask(bundle: Path, adapter: str | None = None) -> tuple[int, str, str]:
    """`edgellm chat` with one line on its standard input."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("EDGELLM_PROGRAM", raising=False)
        patch.delenv("EDGELLM_ADAPTER", raising=False)
        if adapter is not None:
            patch.setenv("EDGELLM_ADAPTER", adapter)
        options = ("--temperature", "0", "--max-tokens", "24")
        done = edgellm("chat", bundle, *options, stdin="What is a bundle?\n", timeout=300)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("target", "language"), [("webgpu", "wgsl"), ("adreno", "opencl"), ("mali", "opencl")]
)
def test_programs_for_other_devices_chat_here(bundles: dict[str, Path], target: str, language: str) -> None:
    status, said, told = ask(bundles[target], adapter_number(language))
    assert status == 0, told
    assert said.startswith("A bundle is the folder that `edgellm build` writes for one target")


def test_programs_that_do_not_run_here_say_so(bundles: dict[str, Path]) -> None:
    status, said, told = ask(bundles["apple-iphone"])
    assert (status, said) == (1, "") and told.startswith("error: ") and told.count("\n") == 1
    assert "metal-fp16, metal-fp32" in told and "do not run from Python" in told
    assert "edgellm package ios BUNDLE --out DIR" in told and "--target native" in told

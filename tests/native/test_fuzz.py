"""What comes from outside never breaks the C core: changed files and texts, under sanitizers."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.native.fuzz_seeds import SEEDS, Seeds
from tests.native.programs import NATIVE
from tests.support import require

SECONDS = 2
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-O1", "-g")


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The core's sources compiled once, for all targets."""
    require(program="cc", reason="compiles with sanitizers: apt-get install gcc")
    folder = tmp_path_factory.mktemp("objects")
    sources = [*(NATIVE / "src").glob("*.c"), NATIVE / "fuzz" / "driver.c"]
    include = [f"-I{NATIVE / 'include'}", f"-I{NATIVE / 'src'}"]
    subprocess.run(["cc", "-std=c11", *SANITIZERS, *include, "-c", *sources], cwd=folder, check=True)
    return sorted(folder.glob("*.o"))


@pytest.mark.parametrize(("target", "files"), SEEDS.items())
def test_fuzz(target: str, files: Seeds, objects: list[Path], demo_gpu: Path, tmp_path: Path) -> None:
    program = tmp_path / "fuzz"
    source = NATIVE / "fuzz" / f"{target}.c"
    include = [f"-I{NATIVE / 'include'}", f"-I{NATIVE / 'src'}"]
    libraries = ["-lm", "-lpthread", "-ldl"]
    command = ["cc", "-std=c11", *SANITIZERS, *include, source, *objects, "-o", program, *libraries]
    subprocess.run(command, check=True)
    seeds = files(tmp_path, demo_gpu)
    assert seeds
    run = subprocess.run([program, str(SECONDS), "1", *seeds], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    assert int(run.stdout) > 500

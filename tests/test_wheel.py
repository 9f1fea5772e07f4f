"""The wheel by itself: installed elsewhere, with targets/ and models/ in it, it builds and answers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support import npm_packages

REPOSITORY = Path(__file__).parent.parent
_WHERE_IS_THE_PAGE = "from edgellm.package.page import built_page; print(built_page() / 'index.html')"

_HOW_MANY_SOURCES = "from edgellm.package.android import shipped_sources; print(len(shipped_sources()))"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("npm"):
        npm_packages()
    out = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(REPOSITORY)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_holds_what_runs_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for needed in (
        "edgellm/py.typed",
        "edgellm/data/targets/x86-64.toml",
        "edgellm/data/models/llama.toml",
        "edgellm/data/models/demo/model.safetensors",
        "edgellm/data/native/include/edgellm.h",
        "edgellm/data/native/src/api.c",
        "edgellm/data/android/settings.gradle.kts",
        "edgellm/data/android/.gitignore",
        "edgellm/data/ios/App/project.yml",
        "edgellm/data/LICENSE",
        "edgellm/server/static/index.html",
    ):
        assert needed in names
    if shutil.which("npm"):
        assert {"edgellm/data/page/index.html", "edgellm/data/page/sw.js"} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    command = ["git", "-C", str(REPOSITORY), "ls-files", "android", "ios"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    folders = ("edgellm/data/android/", "edgellm/data/ios/")
    shipped = {name.removeprefix("edgellm/data/") for name in names if name.startswith(folders)}
    assert not listed or shipped == set(listed)
    assert not [name for name in names if name.startswith("tests/") or "__pycache__" in name]


def test_the_wheel_builds_and_answers_outside_the_repository(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(pip, check=True)
    environment = os.environ | {"PYTHONPATH": str(site)}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    home = run("-c", "import edgellm; print(edgellm.__file__)").strip()
    assert Path(home).is_relative_to(site)
    run("-m", "edgellm", "build", "demo", "--out", "bundle")
    assert "x86-64" in run("-m", "edgellm", "targets", "--json")
    assert "folder" in run("-m", "edgellm", "generate", "bundle", "--prompt", "What is a bundle?")
    assert run("-m", "edgellm", "verify", "bundle", "--json").startswith('{"ok": true')
    assert int(run("-c", _HOW_MANY_SOURCES)) > 100
    if shutil.which("npm"):
        assert "data/page/index.html" in run("-c", _WHERE_IS_THE_PAGE).replace(os.sep, "/")

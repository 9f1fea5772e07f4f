"""build, inspect, verify, targets, models and doctor, as a user and as a program call them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from edgellm.backends.tvm.isa import NEEDS
from edgellm.bundle import Bundle, BundleWriter
from edgellm.bundle.manifest import MemoryFacts
from edgellm.checkpoint import families
from edgellm.cli.doctor import EXTRAS
from edgellm.cli.group import cli
from edgellm.machine import read_cpu
from edgellm.targets import load_targets
from tests.bundle.example import FILES, manifest

ROOT = Path(__file__).resolve().parents[2]


def edgellm(*arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgellm", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
    )


def as_json(*arguments: object) -> Any:
    done = edgellm(*arguments, "--json")
    assert done.returncode == 0 and done.stdout.count("\n") == 1, done
    return json.loads(done.stdout)


def test_build_for_programs(checkpoint_dir: Path, tmp_path: Path) -> None:
    built = as_json(
        "build", checkpoint_dir, "--backend", "ctranslate2", "--quant", "fp32", "--out", tmp_path / "b"
    )
    assert list(built) == [
        "bundle", "target", "backend", "quant", "family", "seconds", "bytes", "reason",
    ]  # fmt: skip
    assert built["bundle"] == str(tmp_path / "b") and built["quant"] == "fp32" and built["family"] == "llama"
    assert built["bytes"] == Bundle.open(tmp_path / "b").total_bytes and built["seconds"] > 0


def test_build_for_people(checkpoint_dir: Path, tmp_path: Path) -> None:
    options = ("--backend", "ctranslate2", "--context", "64", "--out", tmp_path / "my bundle")
    done = edgellm("build", checkpoint_dir, *options)
    assert done.returncode == 0
    assert "ctranslate2 was asked for" in done.stdout and str(tmp_path / "my bundle") in done.stdout
    assert done.stderr.endswith(f"Next: edgellm chat '{tmp_path}/my bundle'\n")
    assert "Converting" not in done.stderr, "no progress where no terminal is"
    assert Bundle.open(tmp_path / "my bundle").manifest.context == 64


@pytest.mark.skipif(os.name != "posix", reason="terminals of POSIX")
def test_build_shows_progress_on_a_terminal(checkpoint_dir: Path, tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "edgellm", "build", str(checkpoint_dir), "--out", str(tmp_path / "b")),
            *("--backend", "ctranslate2"),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        timeout=120,
    )
    os.close(theirs)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert done.returncode == 0 and "Converting" in shown and "Converting" not in done.stdout


def test_build_refuses_in_one_line(checkpoint_dir: Path, bundle_dir: Path, tmp_path: Path) -> None:
    for arguments, status, says in (
        ([checkpoint_dir, "--target", "mali", "--backend", "ctranslate2", "--out", tmp_path / "b"], 1, "tvm"),
        ([checkpoint_dir, "--kernels", "cuda", "--out", tmp_path / "b"], 1, "cuda is for nvidia-gpu"),
        (
            [checkpoint_dir, "-q", "int4", "--target", "x86-64", "--backend", "ctranslate2"],
            1,
            "the ctranslate2 backend for x86-64 has no quantization 'int4'; it has int8, fp32",
        ),
        ([checkpoint_dir, "--quant", "int3", "--out", tmp_path / "b"], 1, "int8, fp16, fp32"),
        ([checkpoint_dir, "--out", bundle_dir], 1, "--force"),
        ([tmp_path / "none", "--out", tmp_path / "b"], 2, "none"),
        ([checkpoint_dir, "--context", "100000", "--out", tmp_path / "b"], 2, "at most 256"),
        ([checkpoint_dir, "--adapter", tmp_path / "lora", "--out", tmp_path / "b"], 1, "lora"),
    ):
        done = edgellm("build", *arguments)
        assert done.returncode == status and done.stdout == "", done
        assert done.stderr.startswith("error: ") and says in done.stderr and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_verify(bundle_dir: Path, tmp_path: Path) -> None:
    assert as_json("verify", bundle_dir) == {"ok": True, "problems": []}
    bundle = tmp_path / "b"
    shutil.copytree(bundle_dir, bundle)
    model = bundle / "ctranslate2" / "model.bin"
    data = bytearray(model.read_bytes())
    data[1000] ^= 1
    model.write_bytes(data)
    (bundle / "mine.txt").touch()
    done = edgellm("verify", bundle, "--json")
    assert done.returncode == 1 and json.loads(done.stdout) == {
        "ok": False,
        "problems": [
            {"file": "ctranslate2/model.bin", "problem": "has different contents (SHA-256)"},
            {"file": "mine.txt", "problem": "is not listed in the manifest"},
        ],
    }
    done = edgellm("verify", bundle)
    assert done.returncode == 1 and "model.bin" in done.stdout and done.stderr.startswith("error: ")
    assert edgellm("verify", bundle_dir).stdout == f"{bundle_dir} is whole\n"
    assert json.loads(edgellm("verify", tmp_path, "--json").stdout)["ok"] is False


def test_inspect(bundle_dir: Path) -> None:
    done = edgellm("inspect", bundle_dir)
    assert done.returncode == 0
    for part in (
        "tiny-llama",
        "x86-64",
        "ctranslate2",
        "int8",
        "cohort",
        "256 tokens",
        "Memory",
        "model.bin",
    ):
        assert part in done.stdout, part
    facts = as_json("inspect", bundle_dir)
    opened = Bundle.open(bundle_dir)
    assert facts["model"]["hidden_size"] == opened.manifest.model.hidden_size
    assert facts["bytes"] == opened.total_bytes and facts["path"] == str(bundle_dir)
    for need in facts["memory_needed"]:
        assert need["bytes"] == opened.manifest.memory.total(need["context"], need["batch"])


def test_inspect_warns_when_memory_is_short(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "b") as writer:
        writer.folder("ctranslate2")
        for name, data in FILES.items():
            writer.add(name, data)
        writer.commit(
            manifest(memory=MemoryFacts(weight_bytes=1 << 60, kv_bytes_per_token=1, runtime_bytes=1))
        )
    done = edgellm("inspect", tmp_path / "b")
    assert "warning: even the smallest" in done.stderr and " !" in done.stdout


def test_inspect_shows_no_escape_sequences(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "b") as writer:
        writer.add("tokenizer.json", b"{}")
        made = manifest(chat_template=None, backend_version="\x1b]0;owned\x07[bold]x[/bold]")
        writer.commit(msgspec.structs.replace(made, edgellm="\x1b[31m"))
    done = edgellm("inspect", tmp_path / "b")
    assert done.returncode == 0 and "\x1b" not in done.stdout and "\x07" not in done.stdout
    assert "[bold]x[/bold]" in done.stdout


def test_targets() -> None:
    rows = {row["target"]: row for row in as_json("targets")}
    assert list(rows) == list(load_targets())
    assert all(row["buildable"] and row["missing"] is None for row in rows.values())
    assert sum(row["native"] for row in rows.values()) == 1
    shown = edgellm("targets").stdout
    assert all(name in shown for name in rows) and "(native)" in shown


def test_models() -> None:
    rows = as_json("models")
    assert [row["family"] for row in rows["families"]] == list(families())
    assert all(row["examples"] and row["backends"] for row in rows["families"])
    assert rows["shipped"] == ["demo"]
    shown = edgellm("models")
    assert "Qwen/Qwen2.5-0.5B-Instruct" in shown.stdout and "edgellm build demo" in shown.stderr


def test_doctor() -> None:
    report = as_json("doctor")
    assert report["builds"] == list(load_targets()) and report["runs"] == [report["native"]]
    assert report["cpu"]["cores"] >= 1 and report["disk_free"] > 0
    assert report["cannot_build"] == {}
    shown = edgellm("doctor").stdout
    assert "CPU" in shown and "ctranslate2" in shown and "What works here" in shown


def test_doctor_says_which_kernels_run_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGELLM_ISA", raising=False)
    features = set(read_cpu().features)
    assert as_json("doctor")["isas"] == [name for name, needs in NEEDS.items() if needs <= features]
    monkeypatch.setenv("EDGELLM_ISA", "avx2")
    assert as_json("doctor")["forced_isa"] == "avx2"
    assert "avx2, as EDGELLM_ISA says memory" in " ".join(edgellm("doctor").stdout.split())
    for forced, says in (
        ("bogus", "none: EDGELLM_ISA is 'bogus', which is none of avx512vnni, avxvnni, avx2,"),
        ("i8mm", "i8mm, as EDGELLM_ISA says, but this processor lacks FP16, I8MM, NEON, dot product"),
    ):
        monkeypatch.setenv("EDGELLM_ISA", forced)
        assert says in " ".join(edgellm("doctor").stdout.split())


def test_doctor_says_what_to_install() -> None:
    """Without the backend's package everything still answers, and names the command that installs it."""
    code = (
        "import importlib.util, importlib.metadata, sys\n"
        "hidden = ('ctranslate2', 'tvm', 'fastapi', 'uvicorn', 'prometheus-client')\n"
        "find, version = importlib.util.find_spec, importlib.metadata.version\n"
        "importlib.util.find_spec = lambda name, *rest: None if name in hidden else find(name, *rest)\n"
        "def no_version(name):\n"
        "    if name in hidden: raise importlib.metadata.PackageNotFoundError(name)\n"
        "    return version(name)\n"
        "importlib.metadata.version = no_version\n"
        "sys.modules['ctranslate2'] = None\n"
        "from edgellm.cli.group import run\nsys.exit(run(sys.argv[1:]))"
    )

    def bare(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, *map(str, arguments)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)

    report = json.loads(bare("doctor", "--json").stdout)
    assert report["builds"] == report["runs"] == []
    assert "apache-tvm" in report["cannot_build"]["adreno"]
    install = {extra["name"]: extra["install"] for extra in report["extras"]}
    assert install["ctranslate2"] == f"{sys.executable} -m pip install 'edgellm[ctranslate2]'"
    assert install["serve"] is not None
    assert "pip install" in bare("doctor").stdout
    assert json.loads(bare("targets", "--json").stdout)[0]["buildable"] is False
    refused = bare("build", "demo", "--out", "/nonexistent/b")
    assert refused.returncode == 1 and "pip install" in refused.stderr and refused.stderr.count("\n") == 1


def test_doctor_knows_every_extra() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(EXTRAS) == set(extras) - {"cpu", "test", "dev"}
    for name, (_, distributions) in EXTRAS.items():
        assert sorted(distributions) == sorted(re.split("[<>=]", item)[0] for item in extras[name])


def test_tables_are_not_cut_when_piped() -> None:
    done = CliRunner().invoke(cli, ["targets"])
    assert done.exit_code == 0 and "…" not in done.output

"""`benchmarks/gpu.py` and `benchmarks/host_time.py`, run to their ends on software adapters."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.backends.plan.models import adapter_number
from tests.support import require

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def script(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)


@pytest.fixture(scope="module")
def result(demo_gpu: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A result of both hosts, and what was printed."""
    work = tmp_path_factory.mktemp("gpu-work")
    shutil.copytree(demo_gpu, work / "intel-gpu" / "demo")
    adapters = f"{adapter_number('wgsl')},{adapter_number('opencl')}"
    done = script(
        "gpu.py", "--work", work, "--target", "intel-gpu", "--shape", "tiny", "--adapter", adapters,
        "--programs", "wgsl-fp32,opencl-fp32", "--decode", "1,3", "--prefill", "20", "--new", "5",
        "--rounds", "1", "--answers", "2", "--out", work / "out",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [path] = (work / "out").glob("gpu-*.jsonl")
    return path, done.stdout


def test_a_result_has_the_machine_the_answers_and_speeds_with_samples(result: tuple[Path, str]) -> None:
    about, *rest = map(json.loads, result[0].read_text("utf-8").splitlines())
    assert about["kind"] == "about" and about["adapters"] and about["packages"]["wgpu"]
    answers = [one for one in rest if one["kind"] == "answers"]
    assert [one["program"] for one in answers] == ["wgsl-fp32", "opencl-fp32"]
    for one in answers:
        assert one["tokens"] == 48 and one["different"] == 0 and one["near_ties"] < 5
    speeds = [one for one in rest if one["kind"] == "speed"]
    cases = [(one["gpu"]["runs_on"]["through"], one["batch"], one["prompt"]) for one in speeds]
    assert cases == [(host, *case) for host in ("wgpu", "opencl") for case in ((1, 64), (3, 64), (1, 20))]
    for one in speeds:
        [sample] = one["samples"]
        assert one["gpu"]["launches"] == 33 and one["gpu"]["runs_on"]["software"]
        assert one["gpu"]["least_bytes"] == sample["gpu"]["least_bytes"] > 10**6
        assert one["prefill_tps"] == pytest.approx(
            one["batch"] * one["prompt"] / sample["prefill_s"], rel=1e-3
        )


def test_the_table_has_a_row_for_each_program(result: tuple[Path, str]) -> None:
    path, printed = result
    done = script("gpu.py", "--table", path)
    assert done.returncode == 0 and done.stdout.strip() == printed.strip()
    heads, _, *rows = (line.strip("| ").split(" | ") for line in printed.splitlines() if line[:1] == "|")
    assert [row[heads.index("program")] for row in rows] == ["wgsl-fp32", "opencl-fp32"]
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    [decode] = [
        one["decode_tps"]
        for one in lines
        if one["kind"] == "speed" and one["batch"] == 3 and one["gpu"]["runs_on"]["through"] == "opencl"
    ]
    shown = float(rows[1][heads.index("decode tok/s, batch 3")].replace(",", ""))
    assert shown == pytest.approx(decode, abs=0.5)
    assert "say nothing of a GPU" in printed and "0 differ" in printed


def test_no_gpu_is_said_before_anything_is_built(tmp_path: Path) -> None:
    done = script("gpu.py", "--work", tmp_path / "work", "--adapter", "99")
    assert done.returncode == 1 and "no GPU to measure; adapters here: " in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "work").exists()


def test_the_host_s_part_of_a_step_of_22_layers_is_measured_on_both_hosts(tmp_path: Path) -> None:
    require(module="tvm", reason="it lowers the shape: pip install 'edgellm[tvm]'")
    adapters = f"{adapter_number('wgsl')},{adapter_number('opencl')}"
    done = script("host_time.py", "--adapter", adapters, "--batch", "1,8", "--steps", "40", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    [path] = tmp_path.glob("host-time-*.jsonl")
    about, *records = map(json.loads, path.read_text("utf-8").splitlines())
    assert about["shape"] == "llama-1b"
    assert [(one["through"], one["batch"]) for one in records] == [
        ("wgpu", 1), ("wgpu", 8), ("opencl", 1), ("opencl", 8),
    ]  # fmt: skip
    for one in records:
        assert one["launches"] == 159 and len(one["samples"]) == 40
        assert 0 < one["submit_ms"]["least"] <= one["host_ms"]["least"]

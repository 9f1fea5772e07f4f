"""`benchmarks/browser.py`: a run of edgellm alone in Chromium, its figures, and what is kept of results."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import npm_packages, require

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
RESULTS = sorted((BENCHMARKS / "results").glob("browser-*.jsonl"))


def browser(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / "browser.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A small result, really measured, and what was printed."""
    chromium = os.environ.get("EDGELLM_CHROMIUM", shutil.which("chromium") or "chromium")
    require(program=chromium, reason="it is measured in it: apt-get install chromium")
    require(module="tvm", reason="it builds the bundle that is measured: pip install 'edgellm[tvm]'")
    npm_packages()
    work = tmp_path_factory.mktemp("work")
    done = browser(
        "--work", work, "--engines", "edgellm-webgpu", "--rounds", 1, "--prompt", 8, "--tokens", 10,
        "--software", "--flag=--no-sandbox", "--chromium", shutil.which(chromium), "--out", work / "out",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [path] = (work / "out").glob("browser-demo-*.jsonl")
    assert not (work / "wllama").exists()  # what is not measured is not fetched
    return path, done.stdout


def test_a_result_has_the_adapter_the_versions_and_speeds_with_samples(result: tuple[Path, str]) -> None:
    about, engine = map(json.loads, result[0].read_text("utf-8").splitlines())
    assert about["adapter"]["software"] and about["chromium"] and about["wllama"] and about["cpu"]["model"]
    assert engine["engine"] == "edgellm-webgpu" and engine["refused"] is None
    assert engine["info"]["software"] and engine["info"]["quant"] == "int4"
    [sample] = engine["samples"]
    prefill, whole = sample["prefill"], sample["whole"]
    assert prefill["tokens"] == 1 and 8 <= prefill["prompt"] == whole["prompt"] <= 9
    speed = 1e3 * prefill["prompt"] / prefill["ms"]
    assert engine["prefill_tokens_per_s"] == pytest.approx(speed, abs=0.006)
    speed = 1e3 * (whole["tokens"] - 1) / (whole["ms"] - prefill["ms"])
    assert whole["tokens"] < 8 or engine["decode_tokens_per_s"] == pytest.approx(speed, abs=0.006)


def test_the_table_says_where_it_was_measured(result: tuple[Path, str]) -> None:
    path, printed = result
    done = browser("--table", path)
    assert done.returncode == 0 and done.stdout == printed
    assert "WebGPU on google swiftshader (software, on the processor)" in printed


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_the_docs_show_a_kept_result(path: Path) -> None:
    require(module="tokenizers", reason="benchmarks/browser.py makes prompts with it")
    done = browser("--table", path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in (BENCHMARKS / "README.md").read_text("utf-8")


def test_a_kept_result_has_both_engines_in_the_same_rounds() -> None:
    assert RESULTS
    for path in RESULTS:
        about, *engines = map(json.loads, path.read_text("utf-8").splitlines())
        ran = {one["engine"]: one for one in engines if not one["refused"]}
        assert {"edgellm-webgpu", "wllama-cpu-1"} <= set(ran)
        for one in ran.values():
            assert [sample["round"] for sample in one["samples"]] == list(range(about["rounds"]))
            assert one["prefill_tokens_per_s"] > 0 and one["decode_tokens_per_s"] > 0


def test_an_unknown_engine_is_told_before_anything_is_built(tmp_path: Path) -> None:
    done = browser("--work", tmp_path / "work", "--engines", "edgellm-webgpu,other")
    assert done.returncode == 2 and "no engine is called other" in done.stderr
    assert not (tmp_path / "work").exists()

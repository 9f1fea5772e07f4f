"""`benchmarks/cpu.py`: what it measures, what it keeps, and that README shows the newest result."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import require

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
README = BENCHMARKS.parent / "README.md"


def cpu(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / "cpu.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)


def newest() -> Path:
    """The result that was started last."""
    found = []
    for path in (BENCHMARKS / "results").glob("cpu-*.jsonl"):
        first = json.loads(path.read_text("utf-8").splitlines()[0])
        found.append((first.get("started", first.get("date")), path))
    return max(found)[1]


def test_readme_shows_the_newest_result() -> None:
    done = cpu("--table", newest())
    assert done.returncode == 0, done.stderr
    _, begin, rest = README.read_text("utf-8").partition("<!-- speed -->\n")
    shown, end, _ = rest.partition("\n<!-- end of speed -->")
    assert begin and end
    table, _, picture = shown.rpartition("\n\n")
    assert table == done.stdout.rstrip("\n"), "python benchmarks/cpu.py --readme"
    assert picture.endswith(f"({newest().with_suffix('.png').relative_to(README.parent).as_posix()})")
    assert newest().with_suffix(".png").is_file()


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small result, really measured."""
    require(module="matplotlib", reason="benchmarks/cpu.py draws with it: pip install 'edgellm[bench]'")
    require(module="ctranslate2", reason="it is measured: pip install 'edgellm[cpu]'")
    work = tmp_path_factory.mktemp("work")
    engines = "edgellm-ctranslate2-int8,ctranslate2-int8"
    done = cpu(
        "--work", work, "--shape", "tiny", "--engines", engines, "--rounds", "1", "--out", work / "out"
    )
    assert done.returncode == 0, done.stderr
    assert "| **edgellm int8** (CTranslate2) |" in done.stdout
    (path,) = (work / "out").glob("cpu-*.jsonl")
    return path


def test_a_result_has_the_machine_then_medians_with_their_raw_samples(result: Path) -> None:
    about, *lines = map(json.loads, result.read_text("utf-8").splitlines())
    assert about["shape"] == "tiny" and about["rounds"] == 1 and about["seconds"] > 0
    assert about["cpu"]["usable_cores"] and about["packages"]["ctranslate2"]
    spread = about["read_bandwidth_gbps"]
    assert 0 < spread["min"] <= spread["median"] <= spread["max"]
    assert [built["engine"] for built in about["builds"]] == ["edgellm-ctranslate2-int8"]
    cases = {(line["batch"], line["prompt"], line["new"]) for line in lines}
    assert cases == {(1, 64, 32), (4, 64, 32), (8, 64, 32), (1, 256, 8)} and len(lines) == 8
    for line in lines:
        (sample,) = line["samples"]
        prefill = line["batch"] * line["prompt"] / sample["prefill_s"]
        assert line["prefill_tps"] == pytest.approx(prefill, rel=1e-3)
        assert line["read_bandwidth_gbps"] == sample["bandwidth_gbps"] and sample["round"] == 0
    assert result.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_the_table_is_made_from_the_result(result: Path) -> None:
    done = cpu("--table", result)
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    lines = list(map(json.loads, result.read_text("utf-8").splitlines()))[1:]
    decode = {(line["engine"], line["batch"]): line["decode_tps"] for line in lines if line["new"] == 32}
    for row, engine in ((rows[2], "edgellm-ctranslate2-int8"), (rows[3], "ctranslate2-int8_float32")):
        shown = float(row[rows[0].index("decode, batch 4")].replace(",", ""))
        assert shown == pytest.approx(decode[engine, 4], abs=0.5)
    ratio = float(rows[4][rows[0].index("decode, batch 4")].removesuffix(" ×"))
    ours, theirs = decode["edgellm-ctranslate2-int8", 4], decode["ctranslate2-int8_float32", 4]
    assert ratio == pytest.approx(ours / theirs, abs=0.006)


def test_wrong_engines_are_named(tmp_path: Path) -> None:
    done = cpu("--work", tmp_path, "--engines", "ollama")
    assert done.returncode == 2 and "edgellm-tvm-int4" in done.stderr

"""`benchmarks/serving.py` measures what it says, on a small bundle; its speeds mean nothing here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "serving.py"


def run(*arguments: object) -> str:
    command = [sys.executable, str(SCRIPT), *map(str, arguments), "--rounds", "1", "--threads", "2"]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout


def test_every_measure_gives_its_line_and_the_file_has_them_all(demo_int4: Path, tmp_path: Path) -> None:
    printed = [json.loads(line) for line in run(demo_int4, "--out", tmp_path).splitlines()]
    (file,) = tmp_path.iterdir()
    about, *lines = (json.loads(line) for line in file.read_text().splitlines())
    assert (about["quant"], about["backend"], about["threads"]) == ("int4", "tvm", 2)
    assert lines == printed
    found: dict[str, Any] = {line["measure"]: line for line in lines}
    assert list(found) == ["arrivals", "late", "overhead", "memory", "turn", "start"]
    assert found["turn"]["computed_tokens"] == 21, "20 new tokens, and the one that was chosen last"
    assert found["memory"]["peak_mb"] < found["memory"]["allowed_mb"]
    assert 0 < found["arrivals"]["throughput_ratio"] < 2
    assert found["late"]["prompt_64"]["first_token_ms"] > 0 < found["overhead"]["batch_8"]["ratio"]
    assert found["start"]["first_token_s"] > found["start"]["prefill_s"]

"""`edgellm bench`: the figures' form, and that every engine does the work asked for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgellm.bench.cases import Case, Sample, prompt_ids, tokens_per_second
from tests.cli.running import edgellm
from tests.support import require

SMALL = ("--batch", "1,2", "--prompt", "16", "--new", "24", "--threads", "1", "--rounds", "2")


def test_lines_have_the_fields_of_the_contract(demo_bundle: Path) -> None:
    done = edgellm("bench", demo_bundle, *SMALL, "--compare", "ctranslate2", "--json")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 4
    for line in lines:
        fields = {"engine", "batch", "prompt", "prefill_tps", "decode_tps", "ttft_ms", "peak_rss_mb", "gbps"}
        assert fields <= set(line)
        assert all(line[f] > 0 for f in fields - {"engine"})
    assert {line["engine"].split("-")[0] for line in lines} == {"edgellm", "ctranslate2"}
    assert all(line["edgellm_decode_ratio"] > 0 for line in lines if line["engine"].startswith("ctranslate2"))


def test_table_and_plot(demo_bundle: Path, tmp_path: Path) -> None:
    require(module="matplotlib", reason="edgellm bench --plot draws with it: pip install 'edgellm[bench]'")
    done = edgellm("bench", demo_bundle, *SMALL, "--plot", tmp_path / "speed.png")
    assert done.returncode == 0, done.stderr
    assert "decode tok/s" in done.stdout and "read bandwidth" in done.stdout
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")


def test_wrong_options_are_named(demo_bundle: Path) -> None:
    for arguments, word in (
        (("--compare", "ollama"), "ollama"),
        (("--compare", "llamacpp"), "--checkpoint"),
        (("--prompt", "100000"), "--prompt"),
        (("--batch", "0"), "1,4,8"),
    ):
        done = edgellm("bench", demo_bundle, *arguments)
        assert done.returncode == 2
        assert word in done.stderr and "Traceback" not in done.stderr


def test_prompts_stay_in_the_vocabulary_and_equal_those_of_other_benchmarks() -> None:
    assert prompt_ids(3, 5, 32000) == [(37 * i + 33) % 1500 + 100 for i in range(5)]
    for vocab in (64, 300, 1599, 1600):
        ids = np.array(prompt_ids(7, 500, vocab))
        assert ids.min() >= 0 and ids.max() < vocab


def test_speeds_are_tokens_divided_by_seconds() -> None:
    prefill, decode = tokens_per_second(Case(4, 64, 33), Sample(2.0, 6.0, 2.0, 1.0))
    assert prefill == pytest.approx(128)
    assert decode == pytest.approx(32)

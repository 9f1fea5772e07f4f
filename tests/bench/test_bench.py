"""`edgellm bench`: the figures' form, and that every engine does the work asked for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgellm.bench.cases import Case, Sample, measure_long_enough, prompt_ids, tokens_per_second
from edgellm.bench.compare import Measurement, ratios, summarize
from edgellm.bench.weights import read_share
from edgellm.checkpoint import Checkpoint
from edgellm.errors import EdgeLLMError
from tests.cli.running import edgellm as run
from tests.cli.test_gpu import MEMORY
from tests.support import require

ONE = ("--batch", "1", "--prompt", "16", "--new", "24", "--threads", "1", "--rounds", "1")
TWO = ("--batch", "1,2", "--prompt", "16", "--new", "24", "--threads", "1", "--rounds", "2")
FIELDS = {
    "engine", "batch", "prompt", "new", "prefill_tps", "decode_tps", "ttft_ms", "peak_rss_mb", "gbps",
    "read_bandwidth_gbps", "read_bandwidth_min_gbps", "read_bandwidth_max_gbps", "bandwidth_percent",
    "rounds",
}  # fmt: skip


def test_lines_have_the_fields_of_the_contract(demo_bundle: Path) -> None:
    done = run("bench", demo_bundle, *TWO, "--compare", "ctranslate2", "--json")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 4
    for line in lines:
        assert set(line) >= FIELDS
        assert all(line[f] > 0 for f in FIELDS - {"engine"})
        low, high = line["read_bandwidth_min_gbps"], line["read_bandwidth_max_gbps"]
        assert low <= line["read_bandwidth_gbps"] <= high
        assert line["bandwidth_percent"] == pytest.approx(
            100 * line["gbps"] / line["read_bandwidth_gbps"], abs=0.5
        )
    assert {line["engine"].split("-")[0] for line in lines} == {"edgellm", "ctranslate2"}
    assert all(line["edgellm_decode_ratio"] > 0 for line in lines if line["engine"].startswith("ctranslate2"))


def test_a_demo_int4_beside_the_library_that_its_checkpoint_is_converted_for(
    demo_int4: Path, tmp_path: Path
) -> None:
    compare = ("--compare", "ctranslate2", "--checkpoint", "demo", "--keep", tmp_path / "kept", "--json")
    done = run("bench", demo_int4, *ONE, *compare)
    assert done.returncode == 0, done.stderr
    engines = [json.loads(line)["engine"] for line in done.stdout.splitlines()]
    assert engines[0] == "edgellm-tvm-int4" and engines[1].startswith("ctranslate2-int8")
    (kept,) = (tmp_path / "kept").iterdir()
    assert "converting" in done.stderr and (kept / "model.bin").is_file()
    again = run("bench", demo_int4, *ONE, *compare)
    assert again.returncode == 0 and "converting" not in again.stderr


def test_table_and_plot(demo_bundle: Path, tmp_path: Path) -> None:
    require(module="matplotlib", reason="edgellm bench --plot draws with it: pip install 'edgellm[bench]'")
    done = run("bench", demo_bundle, *ONE, "--plot", tmp_path / "speed.png")
    assert done.returncode == 0, done.stderr
    assert "decode tok/s" in done.stdout and "what memory gives" in done.stdout
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")


def test_wrong_options_are_named(demo_bundle: Path, demo_int4: Path) -> None:
    for bundle, arguments, word in (
        (demo_bundle, ("--compare", "ollama"), "ollama"),
        (demo_bundle, ("--compare", "llamacpp"), "--checkpoint"),
        (demo_int4, ("--compare", "ctranslate2"), "--checkpoint"),
        (demo_bundle, ("--prompt", "100000"), "--prompt"),
        (demo_bundle, ("--batch", "0"), "1,4,8"),
    ):
        done = run("bench", bundle, *arguments)
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


def measurement(number: int, prefill: float, total: float, bandwidth: float) -> Measurement:
    return Measurement("x", Case(2, 8, 11), number, Sample(prefill, total, prefill, 5.0), bandwidth, 0.01)


def test_medians_over_rounds_and_bytes_of_each_step() -> None:
    measured = [measurement(0, 1, 3, 10), measurement(1, 9, 99, 40), measurement(2, 2, 4, 20)]
    line = summarize(measured, step_bytes=2e9)
    assert (line.prefill_tps, line.decode_tps, line.rounds) == (8.0, 10.0, 3)
    assert (line.gbps, line.read_bandwidth_gbps, line.bandwidth_percent) == (10.0, 20.0, 50.0)
    with pytest.raises(EdgeLLMError, match="raise --new"):
        summarize([measurement(0, 3, 2, 10)], step_bytes=1)


def test_ratios_are_ours_divided_by_theirs() -> None:
    slow = summarize([measurement(0, 1, 3, 10)], 1)
    fast = summarize([measurement(0, 0.5, 1.5, 10)], 1)
    renamed = type(fast)(
        **{name: getattr(fast, name) for name in fast.__struct_fields__} | {"engine": "peer"}
    )
    (ratio,) = ratios([slow, renamed], "x")
    assert (ratio.peer, ratio.prefill_ratio, ratio.decode_ratio) == ("peer", 0.5, 0.5)


def test_what_a_disturbance_spoiled_is_measured_again() -> None:
    class Disturbed:
        name, weight_bytes, calls = "x", 1, 0

        def measure(self, case: Case) -> Sample:
            self.calls += 1
            seconds = 9.0 if self.calls <= 31 else 1.0
            return Sample(seconds, 2.0, seconds, 1.0)

    runner = Disturbed()
    assert measure_long_enough(runner, Case(1, 8, 8)).prefill_s == 1.0
    assert runner.calls == 62


def test_a_step_reads_everything_but_the_embedding(checkpoint_dir: Path) -> None:
    with Checkpoint.open(checkpoint_dir) as checkpoint:
        weights = checkpoint.weights
        sizes = {n: np.prod(weights.shape(n)) for n in weights.names() if len(weights.shape(n)) > 1}
        assert not checkpoint.config.tie_word_embeddings
        share = 1 - sizes["embed.weight"] / sum(sizes.values())
        assert read_share(checkpoint.config) == pytest.approx(share)


GPU_STEP = {
    "launches", "launches_per_layer", "moved_bytes", "least_bytes", "step_ms", "wait_ms", "host_ms",
    "submit_ms", "engine_ms",
}  # fmt: skip


@pytest.mark.parametrize("language", ["opencl", "wgsl"])
def test_a_gpu_bundle_shows_its_decode_steps(
    language: str, demo_gpu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.backends.plan.models import adapter_number

    monkeypatch.setenv("EDGELLM_ADAPTER", adapter_number(language))
    monkeypatch.setenv("EDGELLM_PROGRAM", f"{language}-fp32")
    cases = ("--batch", "1,8", "--prompt", "16", "--new", "6", "--rounds", "1")
    if language == "wgsl":
        done = run("bench", demo_gpu, *cases)
        assert done.returncode == 0, done.stderr
        for text in ("least MB", "host ms", "this adapter is software", "wgsl-fp32", "of a copy"):
            assert text in done.stdout
        assert MEMORY.match(done.stderr)
        return
    done = run("bench", demo_gpu, *cases, "--json")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["batch"] for line in lines] == [1, 8]
    for line in lines:
        step, facts = line["gpu"], line["gpu"]["runs_on"]
        assert set(step) == {*GPU_STEP, "runs_on"}
        assert (facts["through"], facts["program"], facts["software"]) == ("opencl", "opencl-fp32", True)
        assert facts["driver"] and facts["copy_gbps"] == line["read_bandwidth_gbps"] > 0
        assert (step["launches"], step["launches_per_layer"]) == (40, 7.0)
        assert step["moved_bytes"] > step["least_bytes"] > 10**6
        assert step["host_ms"] >= step["submit_ms"] > 0 and step["wait_ms"] > 0
        parts = step["wait_ms"] + step["host_ms"] + step["engine_ms"]
        assert step["step_ms"] == pytest.approx(parts, abs=0.01)
        assert line["gbps"] == pytest.approx(step["least_bytes"] / step["step_ms"] / 1e6, abs=0.002)


def test_other_bundles_show_none(demo_bundle: Path) -> None:
    done = run("bench", demo_bundle, *ONE, "--json")
    assert done.returncode == 0, done.stderr
    assert "gpu" not in json.loads(done.stdout)

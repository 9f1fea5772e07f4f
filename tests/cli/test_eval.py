"""`edgellm eval`, as a user and as a program call it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.running import edgellm
from tests.evaluation.demo import write_texts
from tests.support import require


@pytest.fixture(autouse=True)
def _needs_ctranslate2() -> None:
    require(module="ctranslate2", reason="it runs the bundles: pip install 'edgellm[ctranslate2]'")


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    return write_texts(tmp_path / "t.jsonl", ["What is a bundle?", "The capital of France is Paris."])


def test_for_people(demo_bundle: Path, texts: Path) -> None:
    done = edgellm("eval", demo_bundle, "--text", texts, "--against", "demo", "--threads", "1")
    assert done.returncode == 0 and done.stderr == "", done
    for part in (
        "in 2 documents",
        "perplexity",
        "bits per byte",
        "KL divergence",
        "99th percentile",
        "demo (fp32",
    ):
        assert part in done.stdout, part


def test_for_programs(demo_bundle: Path, texts: Path) -> None:
    done = edgellm(
        "eval", demo_bundle, "--text", texts, "--against", demo_bundle, "--max-tokens", 5, "--window", 9,
        "--threads", 1, "--json",
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout.count("\n") == 1 and done.stderr == "", done
    found = json.loads(done.stdout)
    assert list(found) == [
        "bundle", "quant", "text", "documents", "tokens", "bytes", "window", "perplexity", "perplexity_error",
        "bits_per_byte", "seconds", "tokens_per_second", "against",
    ]  # fmt: skip
    assert found["tokens"] == 5 and found["window"] == 9 and found["bundle"] == str(demo_bundle)
    assert found["perplexity"] > 1 and found["seconds"] > 0
    assert found["tokens_per_second"] == pytest.approx(5 / found["seconds"])
    assert list(found["against"]) == [
        "name", "perplexity", "perplexity_ratio", "perplexity_ratio_error", "kl_mean", "kl_median", "kl_p99",
        "kl_max", "top1_agreement",
    ]  # fmt: skip
    assert found["against"]["kl_max"] == 0 and found["against"]["top1_agreement"] == 1


@pytest.mark.parametrize("command", [["eval", "--text", "README.md"], ["bench", "--batch", "1"]])
def test_the_cache_s_type_is_handed_on(demo_bundle: Path, command: list[str]) -> None:
    done = edgellm(command[0], demo_bundle, *command[1:], "--kv", "int8")
    assert done.returncode != 0 and "--backend tvm" in done.stderr, done


def test_json_has_no_nan(demo_bundle: Path, texts: Path) -> None:
    done = edgellm("eval", demo_bundle, "--text", texts, "--max-tokens", 1, "--json")
    found = json.loads(done.stdout, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert found["tokens"] == 1 and found["perplexity_error"] is None and found["against"] is None


def test_errors_are_one_line(demo_bundle: Path, bundle_dir: Path, tmp_path: Path) -> None:
    good, empty, latin, lines = (
        tmp_path / name for name in ("good.txt", "empty.txt", "latin.txt", "l.jsonl")
    )
    good.write_text("What is a bundle?")
    empty.touch()
    latin.write_bytes(b"caf\xe9")
    lines.write_text('{"text": "fine"}\n{"txt": 1}\n')
    for arguments, status, says in (
        ([tmp_path, "--text", good], 1, str(tmp_path)),
        ([demo_bundle, "--text", tmp_path / "none"], 2, "No such file"),
        ([demo_bundle, "--text", tmp_path], 2, "Is a directory"),
        ([demo_bundle, "--text", empty], 2, "no token to predict"),
        ([demo_bundle, "--text", latin], 2, "not UTF-8"),
        ([demo_bundle, "--text", lines], 2, "line 2"),
        ([demo_bundle, "--text", good, "--window", 4096], 2, "at most 1024"),
        ([demo_bundle, "--text", good, "--against", bundle_dir], 2, "another tokenizer"),
        ([demo_bundle, "--text", good, "--against", tmp_path / "none"], 2, "none"),
    ):
        done = edgellm("eval", *arguments)
        assert done.returncode == status and done.stdout == "", (arguments, done)
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and says in done.stderr, (
            done
        )

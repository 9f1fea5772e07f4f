"""The Metal host of the C core, over a Metal of software: numbers, errors, the cache, and no leaks."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from edgellm import Engine
from edgellm.resources import data_dir
from tests.backends.plan.models import use_program
from tests.conformance.runner import PROGRAMS, names
from tests.engine.test_gpu import assert_same
from tests.ios.software import compile_program, environment

PROMPTS = 6
LENGTH = 10


@pytest.fixture(scope="module")
def conformance(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The conformance programs' kernels, compiled."""
    out = tmp_path_factory.mktemp("conformance")
    return [
        compile_program(program, out / program.parent.name) for program in sorted(PROGRAMS.glob("*/metal-*"))
    ]


def run(
    metal: Path, bundle: Path, *options: str | Path, given: str = "1 2 3\n", **settings: str
) -> subprocess.CompletedProcess[str]:
    command = [metal / "edgellm-native", bundle, "--ids", "--temperature", "0", *options]
    return subprocess.run(command, input=given, capture_output=True, text=True, timeout=120, env=settings)


def counted(log: Path) -> Counter[str]:
    """How often each thing happened."""
    return Counter(line.split()[0] for line in log.read_text().splitlines())


def test_conformance(metal: Path, conformance: list[Path]) -> None:
    done = subprocess.run(
        [metal / "conformance", "Software", *(PROGRAMS / name for name in names())],
        capture_output=True, text=True, env=environment(conformance), timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{PROGRAMS / name}: passed" for name in names()]


def test_answers_are_those_of_opencl(
    metal: Path, demo_phone: Path, demo_gpu: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several at once, with 32-bit floats; one token off only where two are nearly as likely."""
    use_program(monkeypatch, "opencl-fp32")
    bundle = tmp_path / "bundle"
    shutil.copytree(demo_phone, bundle)
    without_halves(bundle)
    kernels = compile_program(bundle / "tvm" / "metal-fp32", tmp_path / "kernels")
    questions = (data_dir("models") / "demo" / "heldout.jsonl").read_text().splitlines()[:PROMPTS]
    with Engine(demo_gpu, max_batch=4) as engine:
        prompts = [engine.encode_messages(json.loads(one)["messages"]) for one in questions]
        params = engine.params(temperature=0.0, max_tokens=LENGTH)
        expected = [one.result().token_ids for one in engine.submit_many(prompts, params)]
        given = "".join(" ".join(map(str, ids)) + "\n" for ids in prompts)
        command = ("--batch", "4", "--max-tokens", str(LENGTH))
        done = run(metal, bundle, *command, given=given, **environment([kernels]))
        assert done.returncode == 0, done.stderr
        answers = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
        for prompt, one, got in zip(prompts, expected, answers, strict=True):
            assert_same(engine.executor, prompt, one, got)


def without_halves(bundle: Path) -> None:
    """Take the program with 16-bit floats out of a bundle, so that the other one is used."""
    from edgellm.bundle import Bundle, BundleWriter

    opened = Bundle.open(bundle)
    out = bundle.with_name("without")
    with BundleWriter(out) as writer:
        for entry in opened.manifest.files:
            if "/metal-fp16/" not in entry.path:
                (writer.path / entry.path).parent.mkdir(parents=True, exist_ok=True)
                writer.add(entry.path, (bundle / entry.path).read_bytes())
        writer.commit(opened.manifest)
    shutil.rmtree(bundle)
    out.rename(bundle)


def test_weights_are_used_where_they_are_mapped(
    metal: Path, demo_phone: Path, demo_kernels: Path, tmp_path: Path
) -> None:
    """And copied where Metal does not take them so, which gives the same answer."""
    log = tmp_path / "log"
    one = run(metal, demo_phone, "--max-tokens", "4", **environment([demo_kernels], log=log))
    assert one.returncode == 0, one.stderr
    mapped = counted(log)
    assert mapped["mapped"] == len(list((demo_phone / "tvm").glob("weights-*.bin")))
    log.unlink()
    fail = environment([demo_kernels], fail="nocopy", log=log)
    other = run(metal, demo_phone, "--max-tokens", "4", **fail)
    assert (other.returncode, other.stdout) == (0, one.stdout)
    weights = len(json.loads((demo_phone / "tvm" / "weights.json").read_text()))
    assert counted(log)["buffer"] == mapped["buffer"] + weights
    assert counted(log)["mapped"] == 0


def test_a_step_is_handed_over_in_pieces(
    metal: Path, demo_phone: Path, demo_kernels: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    done = run(metal, demo_phone, "--max-tokens", "3", **environment([demo_kernels], log=log))
    assert done.returncode == 0, done.stderr
    plan = json.loads((demo_phone / "tvm" / "metal-fp16" / "plan.json").read_text())
    launches = {routine["most"]: len(routine["launches"]) for routine in plan["routines"]}
    # The prompt's three tokens, and then two single ones.
    wanted = [min(count, 32) for count in (launches[4], launches[1], launches[1])]
    pieces = [int(line.split()[2]) for line in log.read_text().splitlines() if line.startswith("step")]
    assert pieces == [one for first in wanted for one in (first, launches[1] - first)]


def test_compiled_kernels_are_kept(metal: Path, demo_phone: Path, demo_kernels: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()

    def compiled(**settings: str) -> Counter[str]:
        log = tmp_path / "log"
        log.unlink(missing_ok=True)
        told = environment([demo_kernels], fail=settings.pop("fail", ""), log=log) | settings
        done = run(metal, demo_phone, "--max-tokens", "2", "--cache", cache, **told)
        assert done.returncode == 0, done.stderr
        return counted(log)

    kernels = len(list((demo_phone / "tvm" / "metal-fp16").glob("*.metal")))
    assert compiled()["compiled"] == kernels
    kept = {file.name: file.read_bytes() for file in cache.iterdir()}
    assert len(kept) == kernels and all(name.endswith(".metalarchive") for name in kept)
    again = compiled()
    assert (again["compiled"], again["found"]) == (0, kernels)
    # A damaged one is made anew; another system's are not used, nor taken away.
    damaged = cache / min(kept)
    damaged.write_bytes(b"damaged")
    assert compiled()["compiled"] == 1
    assert damaged.read_bytes() == kept[damaged.name]
    assert compiled(SOFTWARE_METAL_SYSTEM="Version 17.0")["compiled"] == kernels
    assert len(list(cache.iterdir())) == 2 * kernels
    # Without archives, or a folder for them, kernels are compiled each time.
    shutil.rmtree(cache)
    assert compiled()["compiled"] >= kernels
    assert not cache.exists()
    cache.mkdir()
    assert compiled(fail="archive")["compiled"] == kernels
    assert not list(cache.iterdir())


@pytest.mark.parametrize(
    ("fail", "said"),
    [
        ("device", "has no GPU that Metal can use"),
        ("queue", "Software GPU cannot be used"),
        ("memory=1000000", "Software GPU has 0 MiB free"),
        ("process=1000000", "Software GPU has 0 MiB free"),
        ("buffer=4096", "close other apps, or take a smaller context"),
        ("text", "error: this text was not compiled"),
        ("threads=1", "needs"),
        ("step=7", "while they are in the background"),
        ("step=8", "lack of memory"),
        ("step=2", "took too long"),
        ("step=3,after=2", "a step failed: the software GPU was told to fail"),
    ],
)
def test_what_goes_wrong_is_told(
    metal: Path, demo_phone: Path, demo_kernels: Path, fail: str, said: str
) -> None:
    """In one line, and without leaving anything: else the process would end with 97."""
    done = run(metal, demo_phone, "--max-tokens", "4", **environment([demo_kernels], fail=fail))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert said in done.stderr


def test_a_device_is_chosen_by_its_name(metal: Path, demo_phone: Path, demo_kernels: Path) -> None:
    told = environment([demo_kernels])
    for name in ("0", "Software", ""):
        assert run(metal, demo_phone, "--max-tokens", "1", "--device", name, **told).returncode == 0
    done = run(metal, demo_phone, "--device", "Radeon", **told)
    assert "no Metal device is called Radeon; there is 0: Software GPU" in done.stderr


def test_bundles_for_others_are_refused(metal: Path, demo_gpu: Path) -> None:
    done = run(metal, demo_gpu, **environment([]))
    assert done.returncode == 1
    assert "(for intel-gpu) has no program that Software GPU runs" in done.stderr

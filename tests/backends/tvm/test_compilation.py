"""Compiling in child processes: the cache, failures, dumps, and a parent that holds TVM's runtime only."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

import edgellm
from edgellm.backends.tvm import compilation as module
from edgellm.backends.tvm.build import library_task
from edgellm.backends.tvm.compilation import compiling
from edgellm.bundle import Bundle, verify
from edgellm.checkpoint import Checkpoint
from edgellm.compile.isa import X86_64
from edgellm.compile.job import Job
from edgellm.errors import EdgeLLMError


@pytest.fixture
def job(checkpoint_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A job, and an empty cache of its own."""
    monkeypatch.setenv("EDGELLM_CACHE", str(tmp_path / "cache"))
    with Checkpoint.open(checkpoint_dir) as checkpoint:
        return Job(checkpoint.config, X86_64[-1], "int8", 64, ("fp16",))


def compiled(job: Job, out: Path, dump: Path | None = None) -> list[tuple[int, int]]:
    """Compile to `out`; what progress heard."""
    heard: list[tuple[int, int]] = []
    with compiling([library_task(job, out, dump)]) as compilation:
        compilation.wait(lambda done, total: heard.append((done, total)))
    return heard


def test_a_library_is_compiled_once(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert compiled(job, tmp_path / "one.so")[0] == (0, 1)
    made = (tmp_path / "one.so").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", None)
        assert compiled(job, tmp_path / "two.so")[0] == (1, 1)
    assert (tmp_path / "two.so").read_bytes() == made

    [entry] = (tmp_path / "cache" / "libraries").iterdir()
    entry.write_bytes(entry.read_bytes()[:-100])  # a damaged entry is made again, and mended
    assert compiled(job, tmp_path / "three.so")[0] == (0, 1)
    assert (tmp_path / "three.so").read_bytes() == made
    assert compiled(job, tmp_path / "four.so")[0] == (1, 1)


def test_the_key_knows_what_the_code_depends_on(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    other = msgspec.structs.replace(job.config, num_layers=job.config.num_layers + 1)
    jobs = [
        job,
        Job(other, job.isa, "int8", 64, ("fp16",)),
        Job(job.config, X86_64[0], "int8", 64, ("fp16",)),
        Job(job.config, job.isa, "int4", 64, ("fp16",)),
    ]
    assert len({one.key() for one in jobs}) == 4
    before = job.key()
    monkeypatch.setattr("importlib.metadata.version", lambda name: "9.9")
    assert job.key() != before


def test_the_cache_stays_small(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT", 2)
    compiled(job, tmp_path / "one.so")
    folder = tmp_path / "cache" / "libraries"
    [made] = folder.iterdir()
    for age in range(3):
        (folder / f"{age}.so").write_bytes(b"old")
        os.utime(folder / f"{age}.so", (time.time() - 100 * (age + 1),) * 2)
    (folder / ".half.so.1").write_bytes(b"")
    os.utime(folder / ".half.so.1", (0, 0))
    module._tidy(folder)
    assert sorted(file.name for file in folder.iterdir()) == sorted([made.name, "0.so"])


def test_a_failure_is_told_in_one_line(job: Job, tmp_path: Path) -> None:
    bad = msgspec.structs.replace(job, isa=dataclasses.replace(job.isa, triple="nonsense"))
    with pytest.raises(EdgeLLMError, match="compiling for avx2 failed") as caught:
        compiled(bad, tmp_path / "x.so")
    assert "\n" not in str(caught.value)


def test_leaving_early_ends_the_processes(job: Job, tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), compiling([library_task(job, tmp_path / "x.so")]) as compilation:
        process = compilation._children[0][0].process
        raise KeyboardInterrupt
    assert process.returncode is not None and time.monotonic() - started < 5


def test_an_unwritable_cache_is_no_error(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGELLM_CACHE", str(tmp_path / "file"))
    assert compiled(job, tmp_path / "one.so")[-1] == (1, 1)
    assert (tmp_path / "one.so").stat().st_size > 1000


def test_dump_shows_each_phase(job: Job, tmp_path: Path) -> None:
    compiled(job, tmp_path / "one.so", tmp_path / "dump")
    phases = {file.name: file.read_text() for file in sorted((tmp_path / "dump" / "avx2").iterdir())}
    seen = {
        "0-graph.py": "R.builtin.alloc_tensor",
        "1-memory.py": "R.memory.alloc_storage",
        "2-calls.py": "vm.builtin.match_shape",
        "3-loops.py": "layout=None",  # of buffers that are flat now
        "4-unrolled.py": "T.Ramp(",
        "5-functions.py": "calling_conv",
        "6-machine-code.s": "vpmaddubsw",
        "7-bytecode.txt": "vm.builtin.alloc_storage",
    }
    assert list(phases) == list(seen)
    for name, text in seen.items():
        assert text in phases[name], name
    assert len(phases["4-unrolled.py"]) > 2 * len(phases["3-loops.py"])
    plain = tmp_path / "plain.so"
    compiled(job, plain)
    assert plain.read_bytes() == (tmp_path / "one.so").read_bytes(), "looking changes nothing"


def test_a_process_that_has_run_a_bundle_can_build(checkpoint_dir: Path, tmp_path: Path) -> None:
    """Running loads TVM without its compiler for good, and the environment hands that on to children."""
    code = (
        "import sys, edgellm\n"
        "checkpoint, first, second = sys.argv[1:]\n"
        "edgellm.build(checkpoint, 'x86-64', backend='tvm', out=first)\n"
        "with edgellm.Engine(first) as engine:\n"
        "    one = engine.generate(['hello'], max_tokens=4)\n"
        "edgellm.build(checkpoint, 'x86-64', backend='tvm', quant='int4', out=second)\n"
    )
    paths = [checkpoint_dir, tmp_path / "first", tmp_path / "second"]
    environment = {**os.environ, "EDGELLM_CACHE": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", code, *paths], check=True, env=environment, timeout=240)
    assert Bundle.open(tmp_path / "second").manifest.quant == "int4"
    again = edgellm.build(checkpoint_dir, "x86-64", backend="tvm", out=tmp_path / "again").path
    for name in ("lib-avx512vnni.so", "lib-avx2.so", "weights.bin"):
        assert (again / "tvm" / name).read_bytes() == (tmp_path / "first" / "tvm" / name).read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_build_killed_while_it_compiles_leaves_nothing_behind(
    checkpoint_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGELLM_CACHE", str(tmp_path / "cache"))
    place = tmp_path / "place"
    place.mkdir()
    command = [sys.executable, "-m", "edgellm", "build", checkpoint_dir, "--backend", "tvm"]
    with subprocess.Popen([*command, "--out", place / "b"], stderr=subprocess.DEVNULL) as process:
        while not _children(process.pid):
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    assert not (place / "b").exists()
    edgellm.build(checkpoint_dir, "native", backend="tvm", out=place / "b")
    assert [entry.name for entry in place.iterdir()] == ["b"] and verify(place / "b") == []


def _children(process: int) -> list[str]:
    return Path(f"/proc/{process}/task/{process}/children").read_text().split()


def test_a_bundle_built_anew_is_what_runs(checkpoint_dir: Path, tmp_path: Path) -> None:
    """In the same process, at the same place: the code of another quantization has other functions."""
    for quant in ("int8", "fp32", "int8"):
        edgellm.build(checkpoint_dir, "native", backend="tvm", quant=quant, out=tmp_path / "b", force=True)
        with edgellm.Engine(tmp_path / "b") as engine:
            assert len(engine.generate(["hello"], max_tokens=3, ignore_eos=True)[0].token_ids) == 3

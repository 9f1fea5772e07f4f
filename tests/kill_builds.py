"""End builds at random moments, and look at what is left.

    python -m tests.kill_builds --count 200 --signal KILL

After each kill: what stands at `--out` is nothing, the old bundle or the new one; if it is there, `verify`
accepts it and it generates. The next build succeeds and leaves no temporary behind.
"""

from __future__ import annotations

import argparse
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import edgellm
from edgellm.bundle import verify
from tests.make_checkpoints import make_checkpoint

ROOT = Path(__file__).resolve().parents[1]
SHAPE = {"hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 6, "vocab_size": 384}
"""Large enough that a build takes some time, small enough for hundreds of builds."""

_CHILD = """
import sys
from edgellm.cli.group import run
import edgellm.builder, edgellm.backends.ctranslate2.convert, edgellm.backends.tvm.build
print("ready", flush=True)
sys.exit(run(sys.argv[1:]))
"""


@dataclass
class Tally:
    """How many builds were ended while they ran, and what stood at `--out` after those."""

    ended: int = 0
    finished: int = 0
    nothing: int = 0
    old: int = 0
    new: int = 0
    leftovers: int = 0


def kill_builds(
    folder: Path, count: int, number: signal.Signals, backend: str = "ctranslate2", seed: int = 0
) -> Tally:
    """End `count` builds in `folder` with signal `number`; AssertionError if a promise is broken."""
    rng = random.Random(seed)
    checkpoint = make_checkpoint(folder / "model", dtype="F16", **SHAPE)
    place = folder / "place"
    place.mkdir()
    out = place / "b"
    durations = [_timed_build(checkpoint, out, backend) for _ in range(3)]
    longest = 1.2 * statistics.median(durations)  # the first may have had to compile
    tally = Tally()
    expected = "int8"
    for _ in range(count):
        present = rng.random() < 0.5
        if not present:
            _remove(out)
        quant = "fp32" if present and expected == "int8" else "int8"
        arguments = ["build", str(checkpoint), "--quant", quant, "--backend", backend, "--out", str(out)]
        ended = _start_and_end(arguments, rng.uniform(0.005, longest), number)
        tally.ended += ended
        tally.finished += not ended
        tally.leftovers += len(list(place.iterdir())) - out.exists()
        if number != signal.SIGKILL:
            assert [entry.name for entry in place.iterdir()] in ([], ["b"]), "a temporary was left"
        if out.exists():
            found = _check(out)
            assert found in ({expected, quant} if present else {quant}), found
            tally.new += found == quant
            tally.old += found != quant
        else:
            assert not present, "the old bundle was lost"
            tally.nothing += 1
        expected = rng.choice(["int8", "fp32"])
        edgellm.build(checkpoint, quant=expected, backend=backend, out=out, force=True)
        assert [entry.name for entry in place.iterdir()] == ["b"], "the next build left a temporary"
        assert verify(out) == []
    return tally


def _timed_build(checkpoint: Path, out: Path, backend: str) -> float:
    started = time.perf_counter()
    edgellm.build(checkpoint, quant="int8", backend=backend, out=out, force=True)
    return time.perf_counter() - started


def _start_and_end(arguments: list[str], delay: float, number: signal.Signals) -> bool:
    """Start a build and send it a signal after `delay` seconds; True if that ended it."""
    command = [sys.executable, "-c", _CHILD, *arguments, "--force", "--json"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stderr is not None
        assert child.stdout.readline() == b"ready\n", child.stderr.read().decode()
        time.sleep(delay)
        child.send_signal(number)
        said = child.stderr.read().decode()
        status = child.wait(timeout=120)
    assert "Traceback" not in said, said
    if number == signal.SIGKILL:
        assert status in (0, -number), (status, said)
        return status != 0
    # At its very end, after all cleaning up, the interpreter gives a signal back to the system: -number.
    assert status in (0, 128 + number, -number), (status, said)
    return status == 128 + number


def _check(out: Path) -> str:
    """The quantization of the bundle at `out`, after it has been verified and has generated."""
    assert verify(out) == []
    with edgellm.Engine(out, threads=1) as engine:
        params = engine.params(max_tokens=3, temperature=0, ignore_eos=True)
        assert len(engine.submit([1, 17, 42], params).result().token_ids) == 3
        return engine.bundle.manifest.quant


def _remove(out: Path) -> None:
    for file in sorted(out.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    out.rmdir()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--signal", choices=["KILL", "INT", "TERM"], default="KILL")
    parser.add_argument("--backend", choices=["ctranslate2", "tvm"], default="ctranslate2")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        number = signal.Signals[f"SIG{options.signal}"]
        print(kill_builds(Path(folder), options.count, number, options.backend, options.seed))


if __name__ == "__main__":
    main()

"""The command line over a GPU bundle, on the software devices of a test machine: answers, and refusals of
one line.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgellm import adapters
from edgellm.adapters import Adapter, list_adapters
from edgellm.backends.plan.open import read_plan
from edgellm.backends.plan.sizing import plan_memory
from edgellm.bundle import Bundle
from edgellm.cli import doctor
from edgellm.cli.group import cli
from tests.backends.plan.models import PROGRAMS, adapter_number, use_program
from tests.cli.running import edgellm
from tests.cli.test_chat import Terminal
from tests.test_adapters import CARD, INSIDE, SOFTWARE

ROOT = Path(__file__).resolve().parents[2]
QUESTION = ("--prompt", "What is a bundle?", "--temperature", "0", "--max-tokens", "16")
HOSTS = {"wgsl": ("wgpu_host", "WgpuHost"), "opencl": ("opencl_host", "OpenClHost")}
MEMORY = re.compile(r"weights +\S+ MB\ncache .*\n(step .*\n)(runtime .*\n)?total .* free on .*\n")
"""What commands say on stderr before they load a bundle onto a GPU."""


def refused(done: subprocess.CompletedProcess[str], stdout: str = "") -> str:
    """The one line that says why."""
    assert (done.returncode, done.stdout) == (1, stdout), done
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_generate_answers_alike_through_every_program(
    demo_gpu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = set()
    for program in PROGRAMS:
        use_program(monkeypatch, program)
        done = edgellm("generate", demo_gpu, *QUESTION)
        assert done.returncode == 0 and MEMORY.fullmatch(done.stderr), done
        answers.add(done.stdout)
    assert len(answers) == 1 and len(answers.pop()) > 20


def test_no_gpu_is_said_and_the_processor_not_taken_instead(
    demo_gpu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EDGELLM_ADAPTER", raising=False)
    adapter_number("wgsl")
    if all(one.kind == "software" for one in list_adapters()):
        said = refused(edgellm("generate", demo_gpu, *QUESTION))
        assert "no GPU was found, only software that computes on the processor (0: " in said
        assert "EDGELLM_ADAPTER=" in said
    # What a machine without any driver has: the loaders, and nothing to load.
    for variable in ("VK_DRIVER_FILES", "VK_ICD_FILENAMES", "OCL_ICD_VENDORS"):
        monkeypatch.setenv(variable, "/nonexistent")
    assert "no GPU that can run this was found; install its driver" in refused(
        edgellm("generate", demo_gpu, *QUESTION)
    )
    shown = edgellm("doctor")
    assert shown.returncode == 0 and "GPU" in shown.stdout and "none found" in shown.stdout
    assert json.loads(edgellm("doctor", "--json").stdout)["gpus"] == []


def test_doctor_says_that_no_adapter_is_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "list_adapters", lambda **_: [CARD])
    monkeypatch.setenv("EDGELLM_ADAPTER", "abc")
    said = "no graphics adapter that can run this is called 'abc'; there are 0: Radeon"
    assert said in CliRunner().invoke(cli, ["doctor"]).output
    monkeypatch.setenv("EDGELLM_ADAPTER", "radeon")
    shown = CliRunner().invoke(cli, ["doctor"]).output
    assert "the adapter radeon, as EDGELLM_ADAPTER says" in shown
    assert shown.count("unknown free of unknown") == 0, "of a card that does not tell its memory"


def test_too_long_a_context_is_refused_with_what_fits(
    demo_gpu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device of one gigabyte, which PoCL can be."""
    use_program(monkeypatch, "opencl-fp32")
    if "Portable Computing Language" not in list_adapters()[int(adapter_number("opencl"))].driver:
        pytest.skip("no PoCL, which can be told how much memory it has")
    monkeypatch.setenv("POCL_MEMORY_LIMIT", "1")
    said = refused(edgellm("generate", demo_gpu, *QUESTION, "--max-batch", 256))
    found = re.search(
        r"256 sequences of 1,024 tokens need 1\.\d+ GB and pthread.* has 1\.07 GB free; "
        r"--context (\d+) or --max-batch (\d+) would fit",
        said,
    )
    assert found is not None, said
    context, batch = int(found[1]), int(found[2])
    assert 512 < context < 1024 and 128 < batch < 256
    fits = edgellm("generate", demo_gpu, *QUESTION, "--max-batch", 256, "--context", context)
    assert fits.returncode == 0 and fits.stdout
    refused(edgellm("generate", demo_gpu, *QUESTION, "--max-batch", 256, "--context", context + 16))


@pytest.mark.parametrize("language", sorted(HOSTS))
def test_a_device_lost_in_an_answer_ends_it_in_one_line(
    demo_gpu: Path, language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_program(monkeypatch, f"{language}-fp32")
    whole = edgellm("generate", demo_gpu, *QUESTION).stdout
    module, kind = HOSTS[language]
    code = (
        f"import sys\nfrom edgellm.backends.plan import {module}\n"
        f"from tests.backends.plan.losing import lose_after\nlose_after(5, {module}.{kind})\n"
        "from edgellm.cli.group import run\nsys.exit(run(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "generate", str(demo_gpu), *QUESTION]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    memory = MEMORY.match(done.stderr)
    assert memory is not None
    done.stderr = done.stderr[memory.end() :]
    said = refused(done, done.stdout)
    assert (
        "stopped during a step" in said and "its memory ran out" in said and "Open the bundle again" in said
    )
    # What was answered before has been printed, and the line ended.
    begun = done.stdout.removesuffix("\n")
    assert begun and whole.startswith(begun) and len(begun) < len(whole) - 1


def test_inspect_shows_each_program_without_a_device(demo_gpu: Path, demo_adreno: Path) -> None:
    """What it tells is what an executor takes."""
    facts = json.loads(edgellm("inspect", demo_gpu, "--json").stdout)
    programs = {one["name"]: one for one in facts["programs"]}
    assert set(programs) == {"opencl-fp16", "opencl-fp32", "wgsl-fp16", "wgsl-fp32"}
    manifest = Bundle.open(demo_gpu).manifest
    for name, one in programs.items():
        plan = read_plan(demo_gpu / "tvm" / name, manifest.model.vocab_size)
        memory, _ = plan_memory(
            plan, CARD, manifest.memory, context=manifest.context, max_batch=1, default_batch=8
        )
        assert (one["weight_bytes"], one["cache_bytes"], one["step_bytes"]) == (
            memory.weights, memory.cache, memory.step,
        )  # fmt: skip
        assert one["launches"] == len(plan.routines[0].launches) and one["launches_per_layer"] <= 8
        assert 0.99 * (one["cache_bytes"] + one["weight_bytes"]) < one["least_bytes"] <= one["moved_bytes"]
    assert programs["wgsl-fp32"]["cache_bytes"] == 2 * programs["wgsl-fp16"]["cache_bytes"]
    shown = edgellm("inspect", demo_adreno).stdout
    assert re.search(r"opencl-fp16 +\d+ +7\.0 +\S+ MB \(1\.\d\d ×\)", shown), shown


def test_doctor_lists_adapters_with_what_matters() -> None:
    number = {language: int(adapter_number(language)) for language in HOSTS}
    report = json.loads(edgellm("doctor", "--json").stdout)
    shown = edgellm("doctor").stdout
    for language, through in (("wgsl", "wgpu"), ("opencl", "opencl")):
        adapter = report["gpus"][number[language]]
        assert adapter["number"] == number[language] and adapter["through"] == through
        assert adapter["driver"] and adapter["fp16"] in (True, False)
        assert 0 < adapter["free"] <= adapter["memory"]
        assert adapter["target"] is None or adapter["target"] in report["runs"]
        [row] = [line for line in shown.splitlines() if line.startswith(f" {adapter['number']} ")]
        assert adapter["name"] in row and adapter["driver"] in row and adapter["api"] in row
        assert ("yes" if adapter["fp16"] else "no") in row
        assert f" free of {adapter['memory'] / 1e9:.2f} GB" in row
        assert (adapter["target"] or "none") in row


def test_adapters_stand_beside_the_target_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cards that no test machine has."""
    for module in (adapters, doctor):
        monkeypatch.setattr(module, "list_adapters", lambda **_: [CARD, SOFTWARE])
    rows = {row["target"]: row for row in json.loads(CliRunner().invoke(cli, ["targets", "--json"]).output)}
    assert {name: row["adapters"] for name, row in rows.items() if row["adapters"]} == {
        "amd-gpu": ["Radeon RX 7800 XT (Vulkan, radv)"]
    }
    assert "here: Radeon RX 7800 XT (Vulkan, radv)" in CliRunner().invoke(cli, ["targets"]).output
    report = doctor.examine()
    assert "amd-gpu" in report["runs"] and [one["target"] for one in report["gpus"]] == ["amd-gpu", None]


def test_a_native_build_names_the_gpu_beside_the_processor(
    checkpoint_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--backend", "ctranslate2", "--force", "--out", str(tmp_path / "bundle")]

    def notes(*found: Adapter) -> list[str]:
        monkeypatch.setattr(adapters, "list_adapters", lambda **_: found)
        done = CliRunner().invoke(cli, ["build", str(checkpoint_dir), *options])
        assert done.exit_code == 0, done.output
        return done.stderr.splitlines()

    assert len(notes(SOFTWARE)) == 1, "the next command alone"
    assert notes(INSIDE, replace(INSIDE, through="opencl", api="OpenCL"), SOFTWARE)[0] == (
        "Built for the processor. A GPU is here too: "
        "--target intel-gpu is for Intel(R) UHD 770 (Vulkan, Mesa), fp16"
    )


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")
def test_chat_says_what_it_takes_of_the_device(demo_gpu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_program(monkeypatch, "wgsl-fp16")
    name = list_adapters()[int(adapter_number("wgsl"))].name
    terminal = Terminal(demo_gpu)
    shown = terminal.wait_for(">>> ")
    assert re.search(r"weights +2\.\d MB\s+cache .*\s+step .*\s+runtime .*\s+total ", shown), shown
    assert f"free on {name}" in shown
    terminal.type("\x04")
    assert terminal.close() == 0

"""Opening programs: what adapter and program are taken, what is refused before loading, failures later."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgellm import adapters
from edgellm.adapters import Adapter, AdapterLimits
from edgellm.backends.plan import open as opening
from edgellm.backends.plan import opencl_host
from edgellm.backends.plan.executor import PlanExecutor
from edgellm.backends.plan.interface import interface_problem
from edgellm.backends.plan.open import _choose
from edgellm.backends.plan.sizing import check_limits, plan_memory
from edgellm.bundle.manifest import MemoryFacts
from edgellm.compile.plan.codec import decode_plan, encode_plan
from edgellm.compile.plan.plan import PLAN_NAME, Plan
from edgellm.errors import (
    BundleError,
    ExecutorError,
    MissingDependencyError,
    UnsupportedError,
    UsageError,
)
from tests.backends.plan.losing import lose
from tests.backends.plan.models import HOSTS, adapter_number, executor, open_program, program
from tests.backends.tvm.models import Sequences
from tests.golden.cases import golden

LIMITS = AdapterLimits(1 << 31, 1 << 27, 256, 16384, 8, 65535)
CARD = Adapter("Radeon", "wgpu", "Vulkan", "discrete", "radv", 0x1002, True, LIMITS, 8 << 30, 8 << 30)
OPENCL = replace(CARD, through="opencl", api="OpenCL", fp16=False, number=1)
SOFTWARE = replace(CARD, name="llvmpipe", kind="software", number=2)


@pytest.fixture
def llama() -> Path:
    return program("llama", "fp32", ("wgsl-fp32",))


@pytest.fixture
def plan(llama: Path) -> Plan:
    path = llama / "wgsl-fp32" / PLAN_NAME
    return decode_plan(path.read_bytes(), str(path))


def folder_with(root: Path, *programs: str) -> Path:
    for name in programs:
        (root / name).mkdir()
        (root / name / PLAN_NAME).write_text("{}")
    return root


def test_fp16_runs_in_fp16() -> None:
    adapter_number("wgsl")
    reference = golden("llama")
    model = executor("llama", "wgsl", "fp16", "fp16")
    logits = Sequences(model).step({0: reference.prompt + reference.tokens})[0][reference.positions]
    error = np.sqrt(np.mean((logits - reference.logits) ** 2) / np.mean(reference.logits**2))
    assert 0 < error < 1e-2


def test_the_best_program_for_the_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "installed", lambda: ["wgpu", "opencl"])
    monkeypatch.setattr(adapters, "installed", lambda: ["wgpu", "opencl"])
    every = [CARD, OPENCL, SOFTWARE]
    folder = folder_with(tmp_path, "wgsl-fp32", "wgsl-fp16", "opencl-fp32", "opencl-fp16")
    assert _choose(folder, every, None) == (CARD, "wgsl-fp16")
    assert _choose(folder, [replace(CARD, fp16=False), OPENCL], None)[1] == "wgsl-fp32"
    assert _choose(folder, every, "1") == (OPENCL, "opencl-fp32")
    assert _choose(folder, [replace(OPENCL, fp16=True)], None)[1] == "opencl-fp16"
    monkeypatch.setenv("EDGELLM_PROGRAM", "opencl-fp32")
    assert _choose(folder, every, None) == (OPENCL, "opencl-fp32")
    monkeypatch.setenv("EDGELLM_PROGRAM", "opencl-fp16")
    with pytest.raises(UnsupportedError, match="no GPU that can run this was found"):
        _choose(folder, every, None)
    monkeypatch.setenv("EDGELLM_PROGRAM", "cuda")
    with pytest.raises(UnsupportedError, match=r"EDGELLM_PROGRAM is 'cuda' and this bundle has .* wgsl-fp32"):
        _choose(folder, every, None)


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "installed", lambda: ["wgpu"])
    folder = folder_with(tmp_path, "opencl-fp32")
    with pytest.raises(MissingDependencyError, match=r"pyopencl \(pip install 'edgellm\[opencl\]'\)"):
        _choose(folder, [CARD], None)
    shutil.move(folder / "opencl-fp32", folder / "metal-fp16")
    with pytest.raises(UnsupportedError, match=r"\(metal-fp16\) do not run from Python"):
        _choose(folder, [CARD], None)
    monkeypatch.setattr(opening, "installed", list)
    (folder / "metal-fp16").rename(folder / "wgsl-fp32")
    with pytest.raises(MissingDependencyError, match=r"wgpu \(pip install 'edgellm\[gpu\]'\)"):
        _choose(folder, [], None)


def test_memory_is_planned_on_the_device(plan: Plan) -> None:
    def planned(adapter: Adapter, max_batch: int | None, context: int = 128) -> tuple[int, int]:
        facts = MemoryFacts(1 << 20, 1, 100 << 20)
        memory, sizes = plan_memory(
            plan, adapter, facts, context=context, max_batch=max_batch, default_batch=8
        )
        assert memory.blocks == sizes["blocks"] and memory.cache == memory.blocks * block
        return memory.blocks, memory.runtime

    block = 4 * 2 * 2 * 16 * 16 * 3
    # Two kv heads of 16, three layers, keys and values in fp32.
    assert planned(CARD, 4) == (32, 0), "the interpreter is in the machine's memory, not the card's"
    assert planned(replace(CARD, kind="integrated"), None) == (64, 100 << 20)
    tight = replace(CARD, free=(1 << 20) + 3_000_000)
    with pytest.raises(UnsupportedError, match=r"--context \d+ or --max-batch \d+ would fit"):
        planned(tight, 64)
    small = replace(CARD, limits=msgspec.structs.replace(LIMITS, binding_bytes=100 * block // 6))
    assert planned(small, None, 1024)[0] == 100
    with pytest.raises(UnsupportedError, match=r"cache of one layer .*--context 400 or --max-batch 1 would"):
        planned(small, 4, 1024)
    unknown = replace(CARD, free=None, memory=None)
    assert planned(unknown, None) == (64, 0)
    with pytest.raises(UsageError, match="smaller --max-batch"):
        planned(CARD, 1000)


@pytest.mark.parametrize(
    ("limit", "value", "said"),
    [
        ("threads", 64, "allows 64 threads in a workgroup"),
        ("shared_bytes", 512, "bytes of workgroup memory"),
        ("buffers", 2, "buffers in a kernel"),
        ("grid", 1, "workgroups in a row"),
        ("binding_bytes", 4096, "takes buffers of at most 4.1 kB and"),
    ],
)
def test_limits_are_checked_before_loading(plan: Plan, limit: str, value: int, said: str) -> None:
    sizes = plan.sizes | {"b": 4, "m": 8, "blocks": 1, "context": 128}
    check_limits(plan, CARD, sizes)
    with pytest.raises(UnsupportedError, match=said):
        check_limits(plan, replace(CARD, limits=msgspec.structs.replace(LIMITS, **{limit: value})), sizes)


def test_damage_is_named(llama: Path, tmp_path: Path) -> None:
    number = adapter_number("wgsl")
    folder = shutil.copytree(llama, tmp_path / "program")
    table = folder / "weights.json"
    good = table.read_bytes()
    entries = msgspec.json.decode(good)
    entries[0]["bytes"] -= 4
    table.write_bytes(msgspec.json.encode(entries))
    with pytest.raises(BundleError, match=rf"{entries[0]['name']} and wgsl-fp32 takes"):
        open_program(folder, "llama", number)
    table.write_bytes(good)
    source = next((folder / "wgsl-fp32").glob("rope*.wgsl"))
    source.write_text("fn nonsense(")
    with pytest.raises(UnsupportedError, match=r"the driver of .* refuses the kernel rope"):
        open_program(folder, "llama", number)
    source.unlink()
    with pytest.raises(BundleError, match=r"rope.*\.wgsl cannot be read"):
        open_program(folder, "llama", number)
    (folder / "wgsl-fp32" / PLAN_NAME).write_text('{"format": 1}')
    with pytest.raises(BundleError, match="is damaged"):
        open_program(folder, "llama", number)


def test_a_kernel_that_a_device_cannot_launch_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = adapter_number("opencl")
    folder = shutil.copytree(program("llama", "fp32", ("opencl-fp32",)), tmp_path / "program")
    kernel = opencl_host.cl.Kernel
    asked = opencl_host.cl.kernel_work_group_info.WORK_GROUP_SIZE
    real = kernel.get_work_group_info
    # A driver that needs many registers for a kernel.
    monkeypatch.setattr(kernel, "get_work_group_info", lambda *all: 32 if all[1] == asked else real(*all))
    with pytest.raises(UnsupportedError, match=r"refuses the kernel \w+: it runs 32 threads of .*, not \d+"):
        open_program(folder, "llama", number)
    monkeypatch.undo()
    path = folder / "opencl-fp32" / PLAN_NAME
    good = path.read_text()
    for old, new, said in (
        ('"rope_kernel"', '"rode_kernel"', "INVALID_KERNEL_NAME"),
        ('"scalars": ["n"]', '"scalars": []', "arguments, and the plan"),
        ('"threads": [64, 1, 1]', '"threads": [32, 1, 1]', "its text is for 64 threads"),
    ):
        path.write_text(good.replace(old, new))
        assert path.read_text() != good
        with pytest.raises(UnsupportedError, match=said):
            open_program(folder, "llama", number)


def test_a_kernel_that_takes_other_buffers_is_named(llama: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(llama, tmp_path / "program")
    source = next((folder / "wgsl-fp32").glob("rope*.wgsl"))
    source.write_text("@compute @workgroup_size(64) fn rope_kernel() {}")
    with pytest.raises(UnsupportedError, match="refuses the kernel rope"):
        open_program(folder, "llama", adapter_number("wgsl"))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"r"', '"rr"', "its sizes are not"),
        ('"b": 0', '"b": 9', "its sizes are not"),
        ('"tables"', '"tablez"', "its inputs are not"),
        ('"shape": ["n", 4]', '"shape": ["n", 1]', "its inputs are not"),
        ('"shape": ["context", 16]', '"shape": ["n", 16]', "table angles has no row"),
        ('"shape": ["blocks", ', '"shape": ["m", ', r"cache layers\.0\.keys is not"),
        ('"shape": ["blocks", ', '"shape": ["blocks", "n", ', r"cache layers\.0\.keys is not"),
        ('"kind": "cache"', '"kind": "output"', "it has no cache"),
        ('"logits"', '"logit"', "is no float32 logits"),
        (
            '"top_ids", "kind": "output", "dtype": "int32"',
            '"top_ids", "kind": "output", "dtype": "uint8"',
            "of one",
        ),
    ],
)
def test_a_plan_of_something_else_is_refused_before_it_runs(
    plan: Plan, old: str, new: str, said: str
) -> None:
    assert interface_problem(plan, 384) is None
    assert "logits of r rows" in (interface_problem(plan, 1 << 20) or "")
    text = encode_plan(plan).decode()
    assert old in text
    other = msgspec.json.decode(text.replace(old, new), type=Plan)
    assert re.search(said, interface_problem(other, 384) or "")


def test_a_bundle_with_another_plan_is_refused(llama: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(llama, tmp_path / "program")
    path = folder / "wgsl-fp32" / PLAN_NAME
    path.write_text(path.read_text().replace('"tables"', '"tablez"'))
    with pytest.raises(
        BundleError, match=r"plan\.json is no plan of this language model: its inputs are not"
    ):
        open_program(folder, "llama", adapter_number("wgsl"))


def test_no_room_is_told(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that says nothing of its memory, and refuses a buffer when it is asked for one."""
    number = adapter_number("wgsl")
    real = opening.list_adapters()[int(number)]
    boundless = msgspec.structs.replace(real.limits, binding_bytes=1 << 50, buffer_bytes=1 << 50)
    monkeypatch.setattr(opening, "list_adapters", lambda **_: [replace(real, free=None, limits=boundless)])
    with pytest.raises(UnsupportedError, match=r"has no room for the buffer layers.* --context"):
        open_program(llama, "llama", number, context=1 << 20, max_batch=200)


@pytest.mark.parametrize("language", sorted(HOSTS))
def test_a_lost_device_is_told_with_likely_causes(language: str) -> None:
    folder = program("llama", "fp32", (f"{language}-fp32",))
    model: PlanExecutor = open_program(folder, "llama", adapter_number(language))
    Sequences(model).step({0: [5, 6, 7]})
    assert model.host is not None
    lose(model.host)
    for _ in range(2):
        with pytest.raises(
            ExecutorError, match=r"stopped during a step .*memory ran out .*Open the bundle again"
        ):
            Sequences(model).step({0: [5, 6, 7]})
    model.close()


def test_memory_is_told_before_anything_is_loaded(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[object] = []
    real = opening.open_host
    monkeypatch.setattr(opening, "open_host", lambda *all: (happened.append("loaded"), real(*all))[1])
    model = open_program(llama, "llama", adapter_number("wgsl"), planned=happened.append)
    assert happened == [model.memory, "loaded"]
    model.close()

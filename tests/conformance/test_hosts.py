"""Both Python hosts pass the conformance programs, and these are what their script writes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from edgellm.adapters import Adapter, Through, list_adapters
from edgellm.backends.plan.host import Host
from edgellm.backends.plan.weights import MappedWeights
from edgellm.compile.plan.plan import Plan
from edgellm.errors import EdgeLLMError
from tests.conformance.runner import PROGRAMS, names, read_plan, read_steps, run
from tests.support import require

WAYS: dict[str, tuple[Through, str]] = {
    "wgsl": ("wgpu", "pip install 'edgellm[gpu]' and apt-get install mesa-vulkan-drivers"),
    "opencl": ("opencl", "pip install 'edgellm[opencl]' and apt-get install pocl-opencl-icd"),
}
MODULES = {"wgsl": "wgpu", "opencl": "pyopencl"}


def adapter_for(language: str) -> Adapter:
    """One that runs this language's programs: software rather than a GPU."""
    through, how = WAYS[language]
    require(module=MODULES[language], reason=f"runs {language} programs: {how}")
    found = [one for one in list_adapters() if one.through == through]
    if not found:
        refuse = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        refuse(f"no device here runs {language} programs: {how}")
    return min(found, key=lambda one: one.kind != "software")


@pytest.fixture(params=sorted(WAYS))
def language(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("name", names())
def test_host(name: str, language: str) -> None:
    adapter = adapter_for(language)

    def open_host(
        plan: Plan, sources: Mapping[str, str], weights: MappedWeights, sizes: Mapping[str, int]
    ) -> Host:
        if language == "wgsl":
            from edgellm.backends.plan.wgpu_host import WgpuHost

            return WgpuHost(plan, sources, weights, sizes, adapter)
        from edgellm.backends.plan.opencl_host import OpenClHost

        return OpenClHost(plan, sources, weights, sizes, adapter)

    if "fp16" in read_plan(name, language)[0].needs and not adapter.fp16:
        with pytest.raises(EdgeLLMError):
            run(name, language, open_host)
        return
    run(name, language, open_host)


def test_every_language_has_every_program() -> None:
    for name in names():
        plans = [read_plan(name, one)[0] for one in ("wgsl", "opencl", "metal", "cuda")]
        assert len({(plan.routines, tuple(plan.weights.items()), plan.needs) for plan in plans}) == 1, name


def test_outputs_differ_where_a_host_could_be_wrong() -> None:
    """Expected outputs are no zeros that an idle host would give, and steps do not repeat each other."""
    for name in names():
        outputs = [np.array(step.output) for step in read_steps(name).steps]
        assert all(np.abs(one).max() > 0.1 for one in outputs), name
        assert len({one.tobytes() for one in outputs}) == len(outputs), name


def test_programs_are_what_the_script_writes(tmp_path: Path) -> None:
    require(module="tvm", reason="compiles kernels: pip install 'edgellm[tvm]'")
    from tests.conformance.make import write_all

    write_all(tmp_path / "programs")
    for path in sorted((tmp_path / "programs").rglob("*")):
        known = PROGRAMS / path.relative_to(tmp_path / "programs")
        if path.is_file():
            assert known.read_bytes() == path.read_bytes(), f"{known}: run python -m tests.conformance.make"
    written = {one.relative_to(tmp_path / "programs") for one in (tmp_path / "programs").rglob("*")}
    assert written == {one.relative_to(PROGRAMS) for one in PROGRAMS.rglob("*")}

"""Kernels run on whatever device wgpu and OpenCL find: lavapipe and PoCL where there is no GPU."""

from __future__ import annotations

import numpy as np
import pytest

from tests.compile.gpu.runner import Runner, missing, runner


@pytest.fixture(params=["wgsl", "opencl"])
def device(request: pytest.FixtureRequest, needs_tvm: None) -> Runner:
    return runner(request.param)


@pytest.fixture
def half_device(needs_tvm: None) -> Runner:
    """A device with fp16 arithmetic."""
    found = runner("wgsl")
    if not found.fp16:
        raise missing("the Vulkan device has no shader-f16")
    return found


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)

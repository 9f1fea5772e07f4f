"""Times of steps: what is counted, and that the device works while the host goes on."""

from __future__ import annotations

import time

import numpy as np
import pytest

from edgellm.adapters import list_adapters
from edgellm.backends.plan.host import StepTimes
from edgellm.backends.plan.open import open_host
from edgellm.bench.device_copy import bandwidth, copy_bandwidth, open_copy
from edgellm.compile.plan.plan import FORMAT, Buffer, Kernel, Launch, Plan, Routine
from tests.backends.plan.models import HOSTS, adapter_number, executor
from tests.backends.tvm.models import Sequences

pytestmark = pytest.mark.parametrize("language", sorted(HOSTS))

TURNS = 30_000
"""Of every thread's loop: Mesa's software ends one after 65,535."""
LONG = {
    "wgsl": """\
@group(0) @binding(0) var<storage, read> count : array<u32>;
@group(0) @binding(1) var<storage, read_write> y : array<u32>;
@compute @workgroup_size(64) fn long_kernel(@builtin(global_invocation_id) thread : vec3<u32>) {
  var value : u32 = y[thread.x];
  for (var i : u32 = 0u; i < count[0]; i++) { value = value * 1664525u + 1013904223u; }
  y[thread.x] = value;
}
""",
    "opencl": """\
__kernel void long_kernel(__global const uint* count, __global uint* y) {
  uint value = y[get_global_id(0)];
  uint turns = count[0];
  for (uint i = 0; i < turns; ++i) value = value * 1664525u + 1013904223u;
  y[get_global_id(0)] = value;
}
""",
}


class NoWeights:
    def __getitem__(self, name: str) -> np.ndarray:
        raise KeyError(name)


def test_decode_steps_are_counted_and_their_times_fit_together(language: str) -> None:
    model = executor("llama", language)
    sequences = Sequences(model)
    model.decoding = StepTimes()
    start = time.perf_counter()
    sequences.step({0: [5, 6, 7], 1: [8, 9]})
    assert model.decoding == StepTimes(), "a step with prompts is none"
    for token in range(3):
        sequences.step({0: [token + 5], 1: [token + 9]})
    passed, times = time.perf_counter() - start, model.decoding
    assert times.steps == 3
    assert times.submit > 0 and times.wait > 0 and times.between > 0
    assert times.submit + times.wait <= times.total <= passed - times.between


def test_the_device_works_while_the_host_goes_on(language: str) -> None:
    """A step of which all time is the device's: handing it over takes next to nothing of it."""
    adapter = list_adapters()[int(adapter_number(language))]
    kernel = Kernel("long", "long.txt", "long_kernel", ("read", "readwrite"), (), (64, 1, 1), 0, (64, 1, 1))
    plan = Plan(
        FORMAT, language, "fp32", (), {"n": 1}, (),  # type: ignore[arg-type]
        (Buffer("count", "input", "uint32", (4,)), Buffer("y", "cache", "uint32", (4096,))), {}, (kernel,),
        (Routine(1, (Launch("long", ("count", "y")),) * 3),),
    )  # fmt: skip
    host = open_host(plan, {"long.txt": LONG[language]}, NoWeights(), {"n": 1}, adapter)

    def run(count: int) -> tuple[float, float, float]:
        start = time.perf_counter()
        host.run({"count": np.full(4, count, np.uint32)}, {"n": 1}, {"y": 4})
        return host.submitted - start, host.waited, time.perf_counter() - start

    run(1)
    # The best of some, as other programs may hold up the host.
    submit, waited, total = min((run(TURNS) for _ in range(3)), key=lambda one: one[0] / one[2])
    host.close()
    assert total > 0.01
    assert submit < 0.3 * total and waited > 0.6 * total


def test_a_copy_reaches_every_byte(language: str) -> None:
    adapter = list_adapters()[int(adapter_number(language))]
    size = 3 * 4096 * 16 + 5 * 16  # the last threads have fewer vectors than the first
    host = open_copy(adapter, size, 1)
    found = host.run({}, {"n": 1}, {"x": size // 4, "y": size // 4})
    host.close()
    assert found["y"].view(np.uint32).any()
    np.testing.assert_array_equal(found["x"].view(np.uint32), found["y"].view(np.uint32))
    assert 0 < copy_bandwidth(adapter, 4 << 20) < 10_000
    # 0.5 s for a submission and 0.25 s for a copy there and back, of 1 GB each way.
    assert bandwidth(10**9, 4, few=0.75, many=1.75) == pytest.approx(16)
    assert bandwidth(10**9, 4, few=9, many=1.75) == pytest.approx(16 / 0.7), "however disturbed"

"""What a device's memory gives: a kernel that copies, run by the host that runs bundles.

It is measured from a step with more copies less one with fewer, so what a submission costs is not in it.
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from edgellm.adapters import LANGUAGES, Adapter
from edgellm.backends.plan.host import Host
from edgellm.backends.plan.open import open_host
from edgellm.compile.plan.plan import FORMAT, Buffer, Kernel, Language, Launch, Plan, Routine
from edgellm.errors import UnsupportedError

BYTES = 256 << 20
"""Many times what a GPU's caches hold."""
_LEAST_BYTES = 4 << 20
_SOFTWARE_BYTES = 64 << 20
_PAIRS = {"software": 4}
"""Copies there and back that are timed on these devices, and on others."""
_MANY_PAIRS = 32
_PASSES = 5
_THREADS = 256
_EACH = 4
"""Vectors that a thread copies."""
_SOURCES: dict[Language, str] = {
    "wgsl": """\
@group(0) @binding(0) var<storage, read> x : array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> y : array<vec4<u32>>;
@compute @workgroup_size({threads}, 1, 1)
fn copy_kernel(@builtin(global_invocation_id) thread : vec3<u32>) {{
  for (var i : u32 = thread.x; i < {count}u; i += {stride}u) {{
    y[i] = x[i];
  }}
}}
""",
    "opencl": """\
__kernel __attribute__((reqd_work_group_size({threads}, 1, 1)))
void copy_kernel(__global const uint4* restrict x, __global uint4* restrict y) {{
  for (uint i = get_global_id(0); i < {count}u; i += {stride}u) {{
    y[i] = x[i];
  }}
}}
""",
    # What a CUDA host takes is PTX.
    "cuda": """\
.version 5.0
.target sm_60
.address_size 64
.visible .entry copy_kernel(.param .u64 from, .param .u64 to)
.maxntid {threads}
{{
  .reg .pred %end;
  .reg .b32 %i, %group, %thread, %v<4>;
  .reg .b64 %x, %y, %at, %source, %target;
  ld.param.u64 %x, [from];
  ld.param.u64 %y, [to];
  cvta.to.global.u64 %x, %x;
  cvta.to.global.u64 %y, %y;
  mov.u32 %group, %ctaid.x;
  mov.u32 %thread, %tid.x;
  mad.lo.u32 %i, %group, {threads}, %thread;
more:
  setp.ge.u32 %end, %i, {count};
  @%end ret;
  mul.wide.u32 %at, %i, 16;
  add.u64 %source, %x, %at;
  add.u64 %target, %y, %at;
  ld.global.v4.u32 {{%v0, %v1, %v2, %v3}}, [%source];
  st.global.v4.u32 [%target], {{%v0, %v1, %v2, %v3}};
  add.u32 %i, %i, {stride};
  bra more;
}}
""",
}


class _NoWeights:
    """A program without weights."""

    def __getitem__(self, name: str) -> NDArray[np.uint8]:
        raise KeyError(name)


def copy_bandwidth(adapter: Adapter, size: int | None = None) -> float:
    """GB/s (10^9 bytes) that are read and written together while `size` bytes are copied there and back.

    Args:
        size: None: many times what caches hold, or what there is room for.

    Raises:
        UnsupportedError: the device cannot be opened, or has no room for the smallest copy.
    """
    software = adapter.kind == "software"
    if size is None:
        size = _SOFTWARE_BYTES if software else BYTES
        while size > min(adapter.limits.binding_bytes, adapter.limits.buffer_bytes):
            size //= 2
    pairs = _PAIRS.get(adapter.kind, _MANY_PAIRS)
    while True:
        try:
            host = open_copy(adapter, size, pairs)
            break
        except UnsupportedError:
            if size // 2 < _LEAST_BYTES:
                raise
            size //= 2
    try:
        few, many = [_least_seconds(host, count) for count in (1, 2)]
    finally:
        host.close()
    return bandwidth(size, pairs, few, many)


def bandwidth(size: int, pairs: int, few: float, many: float) -> float:
    """GB/s, if a pair of copies of `size` bytes takes `few` seconds and 1 + `pairs` of them `many`.

    What a submission costs is taken for at most half of a step, so a disturbance cannot make it absurd.
    """
    seconds = max(many - few, many * pairs / (1 + pairs) / 2)
    return 2 * pairs * 2 * size / seconds / 1e9


def open_copy(adapter: Adapter, size: int, pairs: int) -> Host:
    """A host with buffers `x`, filled, and `y`, empty, of `size` bytes, a multiple of 16.

    Steps of size n = 1 copy x to y and y to x; those of n = 2 do so `pairs` times more.
    """
    language = LANGUAGES[adapter.through]
    count = size // 16
    groups = -(-count // (_THREADS * _EACH))
    source = _SOURCES[language].format(threads=_THREADS, count=count, stride=groups * _THREADS)
    kernel = Kernel(
        "copy", "copy.txt", "copy_kernel", ("read", "write"), (), (_THREADS, 1, 1), 0, (groups, 1, 1)
    )
    pair = (Launch("copy", ("x", "y")), Launch("copy", ("y", "x")))
    plan = Plan(
        FORMAT, language, "fp32", (), {"n": 2}, (),
        (Buffer("x", "cache", "uint32", (4 * count,)), Buffer("y", "cache", "uint32", (4 * count,))), {},
        (kernel,), (Routine(1, pair), Routine(2, pair * (1 + pairs))),
    )  # fmt: skip
    host = open_host(plan, {"copy.txt": source}, _NoWeights(), {"n": 2}, adapter)
    noise = np.random.default_rng(0).integers(0, 1 << 32, min(4 * count, 1 << 20), np.uint32)
    host.write("x", np.resize(noise, 4 * count))
    return host


def _least_seconds(host: Host, routine: int) -> float:
    seconds = []
    for _ in range(1 + _PASSES):
        start = time.perf_counter()
        host.run({}, {"n": routine}, {"y": 4})
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])

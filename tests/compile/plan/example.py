"""A small plan with everything that a plan may have."""

from __future__ import annotations

import json
from typing import Any

from edgellm.compile.plan.codec import encode_plan
from edgellm.compile.plan.plan import Buffer, Kernel, Launch, Plan, Rotary, Routine


def plan() -> Plan:
    """Two routines over a table, a cache, a slot and a weight."""
    reads, writes = ("read", "read", "write"), ("read", "read", "readwrite", "write")
    eighth = ["/", ["*", "n", 8], 64]
    kernels = (
        Kernel("first", "first.cl", "first_kernel", reads, ("n",), (32, 1, 1), 128, (2, "n", 1)),
        Kernel("second", "second.cl", "second_kernel", writes, ("m", "n"), (8, 8, 1), 0, (eighth, 1, 1)),
    )
    launches = (Launch("first", ("x", "w", "between")), Launch("second", ("between", "angles", "kept", "y")))
    return Plan(
        1,
        "opencl",
        "fp32",
        (),
        {"n": 16, "m": 0, "context": 0},
        (Rotary("angles", (1.0, 0.25), 1.5),),
        (
            Buffer("x", "input", "float32", ("n", 8)),
            Buffer("angles", "table", "float32", ("context", 4)),
            Buffer("kept", "cache", "float16", ("m", 16)),
            Buffer("between", "slot", "uint8", (["max", ["*", "n", 32], 64],)),
            Buffer("y", "output", "float32", ("n",)),
        ),
        {"w": 32},
        kernels,
        (Routine(1, launches), Routine(16, launches)),
    )


def document() -> dict[str, Any]:
    """As JSON's objects."""
    return dict(json.loads(encode_plan(plan())))

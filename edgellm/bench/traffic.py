"""Bytes that a decode step of a GPU program moves, and the least that any program must, from its plan.

What a launch moves is the sum over its arguments of the bytes that a step of these sizes uses: once what it
reads, once what it writes. That threads of a launch read a value several times is not counted, as that is
for caches to serve. The least is every weight, key, value, input and output that the step uses, once; what
launches hand to each other is not part of it. benchmarks/README.md says how to read the two.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from edgellm.bundle.model_config import ModelConfig
from edgellm.compile.plan.plan import Buffer, Kernel, Launch, Plan
from edgellm.compile.plan.sizes import evaluate
from edgellm.quantize.formats import GROUP, padded
from edgellm.quantize.gpu_layout import OUTPUTS

BLOCK_SIZE = 16
"""Positions in a block of the cache."""


class Traffic(msgspec.Struct, frozen=True):
    """A decode step.

    Attributes:
        launches: in all. launches_per_layer: of those of the layers.
        moved_bytes, least_bytes: see above.
    """

    launches: int
    launches_per_layer: float
    moved_bytes: int
    least_bytes: int


class Use(msgspec.Struct, frozen=True):
    """What a launch uses of one argument.

    Attributes:
        bytes: that it reads or writes. most: as much, had no other launch a share in it.
    """

    launch: int
    buffer: str
    write: bool
    bytes: int
    most: int


def decode_traffic(plan: Plan, config: ModelConfig, contexts: Sequence[int]) -> Traffic:
    """Of a step with one token of each sequence.

    Args:
        contexts: tokens of each sequence in the cache once the step has run.
    """
    launches = next(one for one in plan.routines if len(contexts) <= one.most).launches
    uses = list(decode_uses(plan, config, contexts))
    inner = [i for i, one in enumerate(launches) if any(a.startswith("layers.") for a in one.arguments)]
    kinds = {one.name: one.kind for one in plan.buffers}
    least: dict[str, int] = {}
    for use in uses:
        if kinds.get(use.buffer) != "slot":
            least[use.buffer] = max(least.get(use.buffer, 0), use.most)
    return Traffic(
        launches=len(launches),
        launches_per_layer=round((inner[-1] - inner[0] + 1) / config.num_layers, 2),
        moved_bytes=sum(use.bytes for use in uses),
        least_bytes=sum(least.values()),
    )


def decode_uses(plan: Plan, config: ModelConfig, contexts: Sequence[int]) -> Iterator[Use]:
    """Every argument of every launch; one that is read and written comes twice. See `decode_traffic`."""
    batch = len(contexts)
    launches = next(one for one in plan.routines if batch <= one.most).launches
    # Of a table of angles, a step uses one row a token.
    sizes = {
        "n": batch, "b": batch, "r": batch, "m": max(-(-one // BLOCK_SIZE) for one in contexts),
        "blocks": 1, "context": batch,
    }  # fmt: skip
    buffers = {one.name: one for one in plan.buffers}
    access = {kernel.name: kernel.access for kernel in plan.kernels}
    kernels = {kernel.name: kernel for kernel in plan.kernels}
    values: dict[str, int] = {}
    written = [_written(launch, access) for launch in launches]
    for index, launch in enumerate(launches):
        # Launches in a row that write the same are parts of one product.
        parts = 1
        for step in (-1, 1):
            at = index + step
            while 0 <= at < len(launches) and written[at] == written[index]:
                parts, at = parts + 1, at + step
        for name, how in zip(launch.arguments, access[launch.kernel], strict=True):
            buffer = buffers.get(name)
            if buffer is None:
                size = _weight(plan, name, launch, batch)
                yield Use(index, name, False, size, size)
                continue
            if how != "write":
                if buffer.kind == "cache":
                    size = _cached(buffer, config, contexts)
                else:
                    size = values[name] if buffer.kind == "slot" else _bytes(buffer, sizes)
                yield Use(index, name, False, size, size)
            if how != "read":
                size = _bytes(buffer, sizes)
                if buffer.kind == "cache":
                    size = batch * (size // BLOCK_SIZE)
                elif buffer.kind == "slot":
                    result = written[index].index(name)
                    size = values[name] = min(
                        size, _value(kernels[launch.kernel], result, plan, config, sizes)
                    )
                yield Use(index, name, True, size // parts, size)


def _written(launch: Launch, access: Mapping[str, Sequence[str]]) -> list[str]:
    pairs = zip(launch.arguments, access[launch.kernel], strict=True)
    return [name for name, how in pairs if how != "read"]


def _bytes(buffer: Buffer, sizes: Mapping[str, int]) -> int:
    return evaluate(buffer.bytes, sizes)


def _value(kernel: Kernel, result: int, plan: Plan, c: ModelConfig, sizes: Mapping[str, int]) -> int:
    """Bytes of what a kernel of `edgellm.compile.gpu.graph` computes: its slot may be larger."""
    n, r, narrow = sizes["n"], sizes["r"], 2 if plan.arithmetic == "fp16" else 4
    heads = c.num_heads * c.head_dim
    if parts := re.match(r"attention\d*_\d+x(\d+)", kernel.name):
        many = int(parts[1])
        return n * (c.num_heads * many * (c.head_dim + 2) * 4 if many > 1 else heads * narrow)
    if kernel.name.startswith("top"):
        [top] = [one for one in plan.buffers if one.name == "top"]
        return r * evaluate(kernel.grid[0], sizes) * 4 * (int(top.shape[1]) if result < 2 else 2)
    known = {
        "embed": n * c.hidden_size * 4,
        "qkv": n * padded(heads + 2 * c.num_kv_heads * c.head_dim, OUTPUTS) * 4,
        "rope": n * heads * 4,
        "merge": n * heads * narrow,
        "gate_up": n * padded(c.intermediate_size, GROUP) * narrow,
        "norm": n * c.hidden_size * narrow,
        "norm_rows": r * c.hidden_size * 4,
    }
    [name] = re.findall("^(?:gate_up|norm_rows|[a-z]+)", kernel.name)
    return known.get(name, n * c.hidden_size * 4)


def _weight(plan: Plan, name: str, launch: Launch, tokens: int) -> int:
    """All of it; of the embedding that tokens are looked up in, their rows."""
    if "tokens" in launch.arguments and name.startswith("embed."):
        [logits] = [one for one in plan.buffers if one.name == "logits"]
        return tokens * plan.weights[name] // int(logits.shape[1])
    return plan.weights[name]


def _cached(buffer: Buffer, config: ModelConfig, contexts: Sequence[int]) -> int:
    """Keys or values that a layer's attention sees."""
    layer = int(re.sub(r"\D", "", buffer.name))
    window = config.sliding_window if config.slides(layer) else None
    seen = sum(contexts) if window is None else sum(min(one, window) for one in contexts)
    return seen * (_bytes(buffer, {"blocks": 1}) // BLOCK_SIZE)

"""Rotary embedding (rotate-half form), query and key norms, and keys and values into their blocks."""

from __future__ import annotations

from tvm.tirx.script.builder import ir as T

from edgellm.compile.gpu.kernel import Cell, GpuKernel, KernelBuilder, Value, barrier, bind, narrow, store
from edgellm.compile.gpu.tokens import FIELDS, POSITION, SLOT
from edgellm.compile.heads import BLOCK_SIZE, Heads

_THREADS = (64, 128)
"""The fewest and the most: a head may have fewer entries, or more."""


def rotate_and_append(
    heads: Heads, row: int, name: str, *, scale: float, norm_eps: float | None = None
) -> GpuKernel:
    """Rotated queries times `scale`; rotated keys and values go into the cache.

    A workgroup is one head of one token. Arguments: qkv float32[n * row], tokens int32[n * FIELDS],
    angles float32[context * rotary_dim] (cosines, then sines of each position),
    (norms float32[2 * dim]: of queries, of keys,) keys, values (see `Heads`; written),
    q float32[n * heads * dim].
    """
    dim, half = heads.dim, heads.rotary_dim // 2
    threads = _THREADS[dim > _THREADS[0]]
    with KernelBuilder(name) as k:
        n, context, blocks = k.size("n"), k.size("context"), k.size("blocks")
        qkv = k.buffer("qkv", n * row, "float32")
        tokens = k.buffer("tokens", n * FIELDS, "int32")
        angles = k.buffer("angles", context * (2 * half), "float32")
        norms = k.buffer("norms", 2 * dim, "float32") if norm_eps is not None else None
        size = blocks * (heads.kv_heads * heads.page)
        keys = k.buffer("keys", size, heads.dtype, "write")
        values = k.buffer("values", size, heads.dtype, "write")
        q = k.buffer("q", n * heads.heads * dim, "float32", "write")
        all_heads = heads.heads + 2 * heads.kv_heads
        with k.launch((all_heads, "n"), (threads,)) as ((head, token), (place,)):
            entries = k.shared(dim)
            is_query, is_value = bind(head < heads.heads), bind(head >= heads.heads + heads.kv_heads)
            which = bind(T.Select(is_query, T.int32(0), T.int32(dim)))
            factor = Cell("float32")
            factor.value = T.float32(1)
            with T.serial(-(-dim // threads)) as turn:
                i = bind(turn * threads + place)
                with T.If(i < dim), T.Then():
                    store(entries, i, qkv[token * row + head * dim + i])
            barrier()
            if norm_eps is not None:
                total = Cell("float32")
                total.value = T.float32(0)
                with T.serial(dim) as j:
                    total.value = total.value + entries[j] * entries[j]
                factor.value = T.float32(1) / T.sqrt(total.value / T.float32(dim) + T.float32(norm_eps))
            position = bind(tokens[token * FIELDS + POSITION])
            slot = bind(tokens[token * FIELDS + SLOT])
            block, within = bind(T.floordiv(slot, BLOCK_SIZE)), bind(T.floormod(slot, BLOCK_SIZE))

            def page(head: Value) -> Value:
                return bind((block * heads.kv_heads + head) * heads.page)

            def normed(at: Value) -> Value:
                value = entries[at]
                return bind(value if norms is None else value * factor.value * norms[which + at])

            def put(i: Value, value: Value) -> None:
                """A rotated entry of a query or a key."""
                with T.If(is_query):
                    with T.Then():
                        store(q, (token * heads.heads + head) * dim + i, value * T.float32(scale))
                    with T.Else():
                        at = page(bind(head - heads.heads)) + i * BLOCK_SIZE + within
                        store(keys, at, narrow(value, heads.dtype))

            with T.serial(-(-dim // threads)) as turn:
                i = bind(turn * threads + place)
                with T.If(i < dim), T.Then(), T.If(is_value):
                    with T.Then():
                        at = page(bind(head - (heads.heads + heads.kv_heads))) + within * dim + i
                        store(values, at, narrow(entries[i], heads.dtype))
                    with T.Else(), T.If(i < 2 * half):
                        with T.Then():
                            # Rotate half: entry i goes with entry i + half, and the other way round.
                            first = bind(i < half)
                            other = bind(T.Select(first, i + half, i - half))
                            turned = bind(position * (2 * half) + T.floormod(i, half))
                            sign = T.Select(first, T.float32(-1), T.float32(1))
                            put(
                                i,
                                bind(
                                    normed(i) * angles[turned] + sign * normed(other) * angles[turned + half]
                                ),
                            )
                        with T.Else():
                            put(i, normed(i))
    return k.kernel

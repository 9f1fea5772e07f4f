"""Rotary embedding (rotate-half form), query and key norms, and keys and values into their blocks."""

from __future__ import annotations

from tvm.tirx.script.builder import ir as T

from edgellm.compile.gpu.kernel import Buffer, GpuKernel, KernelBuilder, Value, barrier, bind, store
from edgellm.compile.gpu.tokens import FIELDS, POSITION, SLOT
from edgellm.compile.heads import BLOCK_SIZE, Heads


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
    with KernelBuilder(name) as k:
        n, context, blocks = k.size("n"), k.size("context"), k.size("blocks")
        qkv = k.buffer("qkv", n * row, "float32")
        tokens = k.buffer("tokens", n * FIELDS, "int32")
        angles = k.buffer("angles", context * (2 * half), "float32")
        norms = k.buffer("norms", 2 * dim, "float32") if norm_eps is not None else None
        size = blocks * (heads.kv_heads * heads.page)
        keys = k.buffer("keys", size, heads.cache, "write")
        values = k.buffer("values", size, heads.cache, "write")
        q = k.buffer("q", n * heads.heads * dim, "float32", "write")
        all_heads = heads.heads + 2 * heads.kv_heads
        with k.launch((all_heads, "n"), (dim,)) as ((head, token), (i,)):
            shared = k.shared(dim)
            store(shared, i, qkv[token * row + head * dim + i])
            barrier()
            is_query, is_value = bind(head < heads.heads), bind(head >= heads.heads + heads.kv_heads)
            position = bind(tokens[token * FIELDS + POSITION])
            slot = bind(tokens[token * FIELDS + SLOT])

            def normed(at: Value) -> Value:
                if norms is None or norm_eps is None:
                    return bind(shared[at])
                total = None
                for j in range(dim):
                    square = shared[j] * shared[j]
                    total = square if total is None else bind(total + square)
                factor = T.float32(1) / T.sqrt(total / T.float32(dim) + T.float32(norm_eps))
                which = bind(T.Select(is_query, T.int32(0), T.int32(dim)))
                return bind(shared[at] * factor * norms[which + at])

            def put(value: Value) -> None:
                with T.If(is_query):
                    with T.Then():
                        store(q, (token * heads.heads + head) * dim + i, value * T.float32(scale))
                    with T.Else():
                        place = _page(heads, slot, bind(head - heads.heads))
                        store(keys, place + i * BLOCK_SIZE + T.floormod(slot, BLOCK_SIZE), _narrow(value, keys))

            with T.If(is_value):
                with T.Then():
                    place = _page(heads, slot, bind(head - (heads.heads + heads.kv_heads)))
                    at = place + T.floormod(slot, BLOCK_SIZE) * dim + i
                    store(values, at, _narrow(shared[i], values))
                with T.Else(), T.If(i < 2 * half):
                    with T.Then():
                        # Rotate half: entry i goes with entry i + half, and the other way round.
                        first = bind(i < half)
                        other = bind(T.Select(first, i + half, i - half))
                        turn = bind(position * (2 * half) + T.floormod(i, half))
                        sign = T.Select(first, T.float32(-1), T.float32(1))
                        put(bind(normed(i) * angles[turn] + sign * normed(other) * angles[turn + half]))
                    with T.Else():
                        put(normed(i))
    return k.kernel


def _page(heads: Heads, slot: Value, head: Value) -> Value:
    """Where the page of a token's block and head begins."""
    return bind((T.floordiv(slot, BLOCK_SIZE) * heads.kv_heads + head) * heads.page)


def _narrow(value: Value, buffer: Buffer) -> Value:
    """In the cache's type, within its range."""
    if buffer.dtype == "float32":
        return value
    return T.cast(T.min(T.max(value, T.float32(-65504)), T.float32(65504)), "float16")

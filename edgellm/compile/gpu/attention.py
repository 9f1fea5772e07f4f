"""Attention over the paged cache, with an online softmax (Milakov and Gimelshein, 2018).

A workgroup is one token and the query heads that share a key/value head. It takes the context in spans: each
thread scores one position for all those heads, the span's maximum and sum are found together, and then each
thread gathers values for one entry of the head.
"""

from __future__ import annotations

from tvm.tirx.script.builder import ir as T

from edgellm.compile.gpu.kernel import Cell, GpuKernel, KernelBuilder, Value, barrier, bind, cells, floats, store
from edgellm.compile.gpu.tokens import FIELDS, POSITION, SEQUENCE
from edgellm.compile.heads import BLOCK_SIZE, Heads

SPAN = 128
"""Positions taken together: threads of a workgroup."""
_PARTS = 16
"""Parts of a span that are reduced first."""
_LOWEST = -1e30


def attention(heads: Heads, name: str, *, window: int | None) -> GpuKernel:
    """Arguments: q float32[n * heads * dim] (scaled), keys, values (see `Heads`), tokens int32[n * FIELDS],
    tables int32[b * m], y float32[n * heads * dim].
    """
    dim, shared = heads.dim, heads.shared
    entries = -(-dim // SPAN)
    slices = max(1, SPAN // dim)
    with KernelBuilder(name) as k:
        n, b, m, blocks = k.size("n"), k.size("b"), k.size("m"), k.size("blocks")
        width = heads.heads * dim
        q = k.buffer("q", n * width, "float32")
        size = blocks * (heads.kv_heads * heads.page)
        keys, values = k.buffer("keys", size, heads.cache), k.buffer("values", size, heads.cache)
        tokens = k.buffer("tokens", n * FIELDS, "int32")
        tables = k.buffer("tables", b * m, "int32")
        y = k.buffer("y", n * width, "float32", "write")
        units = heads.heads // shared
        with k.launch((units, "n"), (SPAN,)) as ((unit, token), (place,)):
            queries, scores = k.shared(shared * dim), k.shared(shared * SPAN)
            parts, state = k.shared(shared * _PARTS), k.shared(3 * shared)
            group = heads.heads // heads.kv_heads
            head = bind(T.floordiv(unit * shared, group))
            first = bind(token * width + unit * (shared * dim))
            with T.serial(-(-shared * dim // SPAN)) as turn:
                at = bind(turn * SPAN + place)
                with T.If(at < shared * dim), T.Then():
                    store(queries, at, q[first + at])
            with T.If(place < shared), T.Then():
                store(state, place, T.float32(_LOWEST))
                store(state, shared + place, T.float32(0))
            position = bind(tokens[token * FIELDS + POSITION])
            table = bind(tokens[token * FIELDS + SEQUENCE] * m)
            oldest = bind(T.max(position - (window - 1), 0)) if window is not None else T.int32(0)
            sums = cells(entries * shared)
            for one in sums:
                one.value = T.float32(0)
            begin = bind(T.floordiv(oldest, SPAN))
            with T.serial(T.floordiv(position, SPAN) + 1 - begin) as step:
                base = bind((begin + step) * SPAN)
                barrier()
                where = bind(base + place)
                visible = bind(T.And(where <= position, where >= oldest))
                totals = cells(shared)
                for total in totals:
                    total.value = T.float32(0)
                with T.If(visible), T.Then():
                    block = bind(tables[table + T.floordiv(where, BLOCK_SIZE)])
                    page = bind((block * heads.kv_heads + head) * heads.page + T.floormod(where, BLOCK_SIZE))
                    with T.serial(dim) as d:
                        key = bind(floats(keys[page + d * BLOCK_SIZE]))
                        for g, total in enumerate(totals):
                            total.value = total.value + key * queries[g * dim + d]
                for g, total in enumerate(totals):
                    store(scores, g * SPAN + place, T.Select(visible, total.value, T.float32(_LOWEST)))
                barrier()
                _maxima(scores, parts, state, place, shared)
                barrier()
                for g in range(shared):
                    at = bind(g * SPAN + place)
                    # Every span has a visible position, so what is masked comes out as an exact zero. (A flag
                    # kept across the barrier would say it too, but PoCL 3.1 loses flags there.)
                    store(scores, at, T.exp(scores[at] - state[g]))
                barrier()
                _sums(scores, parts, state, place, shared)
                # Each thread: one entry of the head (or some), one slice of the positions.
                entry, piece = (place, T.int32(0)) if slices == 1 else (
                    bind(T.floormod(place, dim)), bind(T.floordiv(place, dim))
                )  # fmt: skip
                for e in range(entries):
                    for g in range(shared):
                        one = sums[e * shared + g]
                        one.value = one.value * state[2 * shared + g]
                todo = bind(T.min(position - base + 1, SPAN))
                with T.serial(T.floordiv(todo + (slices - 1), slices)) as turn:
                    at = bind(turn * slices + piece)
                    with T.If(T.And(at < todo, T.And(base + at >= oldest, piece < slices))), T.Then():
                        source = bind(base + at)
                        block = bind(tables[table + T.floordiv(source, BLOCK_SIZE)])
                        page = bind(
                            (block * heads.kv_heads + head) * heads.page + T.floormod(source, BLOCK_SIZE) * dim
                        )
                        for e in range(entries):
                            d = bind(entry + e * SPAN)
                            with T.If(d < dim), T.Then():
                                value = bind(floats(values[page + d]))
                                for g in range(shared):
                                    one = sums[e * shared + g]
                                    one.value = one.value + value * scores[g * SPAN + at]
            barrier()
            for e in range(entries):
                for g in range(shared):
                    one = sums[e * shared + g]
                    if slices > 1:
                        _add_slices(scores, one, place, dim, slices)
                    d = bind(place + e * SPAN)
                    with T.If(d < dim), T.Then():
                        store(y, first + g * dim + d, one.value / state[shared + g])
    return k.kernel


def _maxima(scores: Value, parts: Value, state: Value, place: Value, shared: int) -> None:
    """state: the running maximum of each head, its running sum, and what older sums are multiplied with."""
    each = SPAN // _PARTS
    with T.serial(-(-shared * _PARTS // SPAN)) as turn:
        at = bind(turn * SPAN + place)
        with T.If(at < shared * _PARTS), T.Then():
            most = Cell("float32")
            most.value = T.float32(_LOWEST)
            with T.serial(each) as i:
                most.value = T.max(most.value, scores[at * each + i])
            store(parts, at, most.value)
    barrier()
    with T.If(place < shared), T.Then():
        most = Cell("float32")
        most.value = state[place]
        with T.serial(_PARTS) as i:
            most.value = T.max(most.value, parts[place * _PARTS + i])
        factor = bind(T.exp(state[place] - most.value))
        store(state, 2 * shared + place, factor)
        store(state, shared + place, state[shared + place] * factor)
        store(state, place, most.value)


def _sums(scores: Value, parts: Value, state: Value, place: Value, shared: int) -> None:
    """Add the span's weights to the running sums."""
    each = SPAN // _PARTS
    with T.serial(-(-shared * _PARTS // SPAN)) as turn:
        at = bind(turn * SPAN + place)
        with T.If(at < shared * _PARTS), T.Then():
            total = Cell("float32")
            total.value = T.float32(0)
            with T.serial(each) as i:
                total.value = total.value + scores[at * each + i]
            store(parts, at, total.value)
    barrier()
    with T.If(place < shared), T.Then():
        total = Cell("float32")
        total.value = state[shared + place]
        with T.serial(_PARTS) as i:
            total.value = total.value + parts[place * _PARTS + i]
        store(state, shared + place, total.value)


def _add_slices(scratch: Value, one: Cell, place: Value, dim: int, slices: int) -> None:
    barrier()
    store(scratch, place, one.value)
    barrier()
    with T.If(place < dim), T.Then():
        for other in range(1, slices):
            one.value = one.value + scratch[place + other * dim]

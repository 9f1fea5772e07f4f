"""Attention over the paged cache, with an online softmax (Milakov and Gimelshein, 2018).

A workgroup is an item: some tokens of a sequence that follow each other, with the query heads that share a
key/value head. It takes the context in spans: each thread scores one position for all those rows, the span's
maxima and sums are found together, and then each thread gathers values for one entry of the head.

An item's first token leads it: one at a multiple of `tokens`, or the first of its sequence in the step.
The workgroups of the other tokens end at once. For few tokens the spans of a long context are divided among
`parts` workgroups, whose results `merge` joins; a token's spans are divided in the same way in any company.
"""

from __future__ import annotations

from tvm.tirx.script.builder import ir as T

from edgellm.compile.gpu.kernel import (
    Buffer,
    Cell,
    GpuKernel,
    KernelBuilder,
    Value,
    barrier,
    bind,
    cells,
    floats,
    lane,
    narrow,
    store,
)
from edgellm.compile.gpu.tokens import FIELDS, POSITION, SEQUENCE
from edgellm.compile.heads import BLOCK_SIZE, Heads

SPAN = 128
"""Positions taken together: threads of a workgroup."""
MERGE_THREADS = 64
_REDUCED = 16
"""Parts of a span that are reduced first."""
_LOWEST = -1e30
_MOST_ROWS = 16


def item_tokens(heads: Heads) -> int:
    """Tokens of an item that are worth taking together."""
    return max(1, _MOST_ROWS // heads.shared)


def attention(
    heads: Heads, name: str, *, window: int | None, tokens: int = 1, parts: int = 1, result: str = "float32"
) -> GpuKernel:
    """Arguments: q float32x4[n * heads * dim / 4] (scaled), keys, values (see `Heads`), tokens
    int32[n * FIELDS], tables int32[b * m], y[n * heads * dim] of the type `result`; with several `parts`,
    y float32[n * heads * parts * (dim + 2)]: sums, then their maximum and their weight.
    """
    dim, rows = heads.dim, tokens * heads.shared
    entries = -(-dim // SPAN)
    slices = max(1, SPAN // dim)
    units = heads.heads // heads.shared
    with KernelBuilder(name) as k:
        n, b, m, blocks = k.size("n"), k.size("b"), k.size("m"), k.size("blocks")
        width = heads.heads * dim
        q = k.buffer("q", n * (width // 4), "float32x4")
        size = blocks * (heads.kv_heads * heads.page)
        keys, values = k.buffer("keys", size, heads.dtype), k.buffer("values", size, heads.dtype)
        table = k.buffer("tokens", n * FIELDS, "int32")
        tables = k.buffer("tables", b * m, "int32")
        outputs = n * (heads.heads * parts * (dim + 2)) if parts > 1 else n * width
        y = k.buffer("y", outputs, "float32" if parts > 1 else result, "write")
        with k.launch((units * parts, "n"), (SPAN,)) as ((block_x, token), (place,)):
            scores, partial = k.shared(rows * SPAN), k.shared(rows * _REDUCED)
            state = k.shared(3 * rows)
            unit, part = bind(T.floordiv(block_x, parts)), bind(T.floormod(block_x, parts))
            head = bind(T.floordiv(unit * heads.shared, heads.heads // heads.kv_heads))
            first = bind(table[token * FIELDS + POSITION])
            sequence = bind(table[token * FIELDS + SEQUENCE])
            count = _count(table, token, n, first, sequence, tokens)
            with T.If(count > 0), T.Then():
                last = bind(first + count - 1)
                row_table = bind(sequence * m)
                oldest = bind(T.max(first - (window - 1), 0)) if window is not None else T.int32(0)

                def page(position: Value) -> Value:
                    """Where the position's block begins."""
                    block = tables[row_table + T.floordiv(position, BLOCK_SIZE)]
                    return bind((block * heads.kv_heads + head) * heads.page)

                def queries(t: int) -> Value:
                    """Where the item's token t has its queries; what is beyond the item repeats the last."""
                    at = T.min(token + t, token + count - 1) if t else token
                    return bind(at * (width // 4) + unit * (heads.shared * dim // 4))

                with T.If(place < rows), T.Then():
                    store(state, place, T.float32(_LOWEST))
                    store(state, rows + place, T.float32(0))
                sums = cells(entries * rows)
                for one in sums:
                    one.value = T.float32(0)
                begin = bind(T.floordiv(oldest, SPAN))
                spans = bind(T.floordiv(last, SPAN) + 1 - begin)
                each = bind(T.floordiv(spans + (parts - 1), parts))
                here = bind(T.max(T.min(each, spans - part * each), 0))
                with T.serial(here) as step:
                    base = bind((begin + part * each + step) * SPAN)
                    where = bind(base + place)
                    barrier()
                    totals = cells(rows)
                    for total in totals:
                        total.value = T.float32(0)
                    with T.If(T.And(where <= last, where >= oldest)), T.Then():
                        at = bind(page(where) + T.floormod(where, BLOCK_SIZE))
                        begins = [queries(t) for t in range(tokens)]
                        with T.serial(dim // 4) as four:
                            key = [bind(floats(keys[at + (four * 4 + j) * BLOCK_SIZE])) for j in range(4)]
                            for g, total in enumerate(totals):
                                t, h = divmod(g, heads.shared)
                                query = bind(q[begins[t] + h * (dim // 4) + four])
                                value = total.value
                                for j in range(4):
                                    value = value + key[j] * lane(query, j)
                                total.value = value
                    for g, total in enumerate(totals):
                        seen = _visible(where, first + g // heads.shared, window)
                        store(scores, g * SPAN + place, T.Select(seen, total.value, T.float32(_LOWEST)))
                    barrier()
                    _maxima(scores, partial, state, place, rows)
                    barrier()
                    for g in range(rows):
                        at = bind(g * SPAN + place)
                        seen = _visible(where, first + g // heads.shared, window)
                        weight = bind(T.exp(scores[at] - state[g]))
                        store(scores, at, T.Select(seen, weight, T.float32(0)))
                    barrier()
                    _sums(scores, partial, state, place, rows)
                    # Each thread: one entry of the head (or some), one slice of the positions.
                    entry = place if slices == 1 else bind(T.floormod(place, dim))
                    piece = T.int32(0) if slices == 1 else bind(T.floordiv(place, dim))
                    for e in range(entries):
                        for g in range(rows):
                            one = sums[e * rows + g]
                            one.value = one.value * state[2 * rows + g]
                    todo = bind(T.min(last - base + 1, SPAN))
                    with T.serial(T.floordiv(todo + (slices - 1), slices)) as turn:
                        at = bind(turn * slices + piece)
                        with T.If(T.And(at < todo, T.And(base + at >= oldest, piece < slices))), T.Then():
                            source = bind(base + at)
                            line = bind(page(source) + T.floormod(source, BLOCK_SIZE) * dim)
                            for e in range(entries):
                                d = bind(entry + e * SPAN)
                                with T.If(d < dim), T.Then():
                                    value = bind(floats(values[line + d]))
                                    for g in range(rows):
                                        one = sums[e * rows + g]
                                        one.value = one.value + value * scores[g * SPAN + at]
                barrier()
                for g in range(rows):
                    t, h = divmod(g, heads.shared)
                    row = bind((token + t) * heads.heads + unit * heads.shared + h)
                    for e in range(entries):
                        one = sums[e * rows + g]
                        if slices > 1:
                            _add_slices(scores, one, place, dim, slices)
                        d = bind(place + e * SPAN)
                        with T.If(T.And(d < dim, t < count)), T.Then():
                            if parts > 1:
                                store(y, (row * parts + part) * (dim + 2) + d, one.value)
                            else:
                                store(y, row * dim + d, narrow(bind(one.value / state[rows + g]), result))
                    if parts > 1:
                        with T.If(T.And(place < 2, t < count)), T.Then():
                            store(y, (row * parts + part) * (dim + 2) + dim + place, state[place * rows + g])
    return k.kernel


def merge(heads: Heads, name: str, *, parts: int, result: str = "float32") -> GpuKernel:
    """Arguments: x float32[n * heads * parts * (dim + 2)] from `attention`, y[n * heads * dim]."""
    dim = heads.dim
    with KernelBuilder(name) as k:
        n = k.size("n")
        x = k.buffer("x", n * (heads.heads * parts * (dim + 2)), "float32")
        y = k.buffer("y", n * (heads.heads * dim), result, "write")
        with k.launch((heads.heads, "n"), (MERGE_THREADS,)) as ((head, token), (place,)):
            row = bind(token * heads.heads + head)
            begins = [bind((row * parts + part) * (dim + 2)) for part in range(parts)]
            most = x[begins[0] + dim]
            for begin in begins[1:]:
                most = T.max(most, x[begin + dim])
            most = bind(most)
            factors = [bind(T.exp(x[begin + dim] - most)) for begin in begins]
            total = _weighted(x, [begin + dim + 1 for begin in begins], factors)
            with T.serial(-(-dim // MERGE_THREADS)) as turn:
                d = bind(turn * MERGE_THREADS + place)
                with T.If(d < dim), T.Then():
                    value = _weighted(x, [begin + d for begin in begins], factors)
                    store(y, row * dim + d, narrow(bind(value / total), result))
    return k.kernel


def _weighted(x: Buffer, places: list[Value], factors: list[Value]) -> Value:
    """Sum of the numbers at these places times their factors, in order."""
    total = T.float32(0)
    for place, factor in zip(places, factors, strict=True):
        total = bind(total + x[place] * factor)
    return total


def _count(table: Buffer, token: Value, n: Value, first: Value, sequence: Value, tokens: int) -> Value:
    """Tokens of the item that `token` leads; 0 if it leads none."""
    if tokens == 1:
        return T.int32(1)
    before = bind(table[T.max(token - 1, 0) * FIELDS + SEQUENCE])
    within = bind(T.floormod(first, tokens))
    follows = T.And(token > 0, T.And(before == sequence, within > 0))
    count = Cell("int32")
    count.value = T.Select(follows, T.int32(0), T.int32(1))
    for t in range(1, tokens):
        other = bind(table[T.min(token + t, n - 1) * FIELDS + SEQUENCE])
        more = T.And(token + t < n, T.And(other == sequence, T.And(within + t < tokens, count.value == t)))
        count.value = count.value + T.Select(more, T.int32(1), T.int32(0))
    return bind(count.value)


def _visible(where: Value, position: Value, window: int | None) -> Value:
    """Whether the token at `position` sees the one at `where`.

    Found again where it is needed: PoCL 3.1 loses flags that are kept across a barrier.
    """
    seen = where <= position
    return seen if window is None else T.And(seen, where > position - window)


def _maxima(scores: Value, partial: Value, state: Value, place: Value, rows: int) -> None:
    """state: the running maximum of each row, its running sum, and what older sums are multiplied with."""
    each = SPAN // _REDUCED
    with T.serial(-(-rows * _REDUCED // SPAN)) as turn:
        at = bind(turn * SPAN + place)
        with T.If(at < rows * _REDUCED), T.Then():
            most = Cell("float32")
            most.value = T.float32(_LOWEST)
            with T.serial(each) as i:
                most.value = T.max(most.value, scores[at * each + i])
            store(partial, at, most.value)
    barrier()
    with T.If(place < rows), T.Then():
        most = Cell("float32")
        most.value = state[place]
        with T.serial(_REDUCED) as i:
            most.value = T.max(most.value, partial[place * _REDUCED + i])
        factor = bind(T.exp(state[place] - most.value))
        store(state, 2 * rows + place, factor)
        store(state, rows + place, state[rows + place] * factor)
        store(state, place, most.value)


def _sums(scores: Value, partial: Value, state: Value, place: Value, rows: int) -> None:
    """Add the span's weights to the running sums."""
    each = SPAN // _REDUCED
    with T.serial(-(-rows * _REDUCED // SPAN)) as turn:
        at = bind(turn * SPAN + place)
        with T.If(at < rows * _REDUCED), T.Then():
            total = Cell("float32")
            total.value = T.float32(0)
            with T.serial(each) as i:
                total.value = total.value + scores[at * each + i]
            store(partial, at, total.value)
    barrier()
    with T.If(place < rows), T.Then():
        total = Cell("float32")
        total.value = state[rows + place]
        with T.serial(_REDUCED) as i:
            total.value = total.value + partial[place * _REDUCED + i]
        store(state, rows + place, total.value)


def _add_slices(scratch: Value, one: Cell, place: Value, dim: int, slices: int) -> None:
    barrier()
    store(scratch, place, one.value)
    barrier()
    with T.If(place < dim), T.Then():
        for other in range(1, slices):
            one.value = one.value + scratch[place + other * dim]

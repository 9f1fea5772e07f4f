"""Attention of a step's tokens over the paged cache: decodes and prompt chunks of many sequences in one call.

Work comes as items: up to a few neighbouring tokens of one sequence. An item and a key/value head are one
unit of
parallel work; its rows are the item's tokens times the query heads that share the key/value head, so keys
and values are read once
for all of them. Context is taken in spans of 256 positions with a running maximum (Milakov and Gimelshein
2018,
https://arxiv.org/abs/1805.02867). Spans begin at multiples of 256, and masked positions add exact zeros, so
that a row's result does not depend on the other rows, nor on how a prompt was cut into chunks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm.tirx.script.builder import ir as T

from edgellm.compile.heads import BLOCK_SIZE, Heads
from edgellm.compile.isa import Isa
from edgellm.compile.kernels.matmul import activation_buffers
from edgellm.compile.kernels.quantize import quantize_group
from edgellm.compile.kernels.vector import (
    Buffer,
    Kernel,
    Value,
    bind,
    exp,
    fill,
    flat,
    fma,
    load,
    maximum,
    reduce_add,
    reduce_max,
    registers,
    store,
    to_float,
)
from edgellm.quantize.cpu_layout import GROUP

SPAN = 256
ITEM_FIELDS = 4
"""An item: index of its first token in the step, number of tokens, sequence, position of the first token."""
_MASKED = -1e30
_LOWEST = -1e29
"""Where the running maximum starts: above masked scores, so that those come out as zeros."""


def quantizes(heads: Heads) -> bool:
    """Whether `attention` quantizes its output itself."""
    return heads.dim % GROUP == 0


@dataclass
class _Rows:
    """The rows of a unit of work: `tokens` × `shared` heads."""

    tokens: int
    shared: int
    queries: list[Value]
    """Where each row's query begins."""
    positions: list[Value]
    """Of each row's token."""


def attention(isa: Isa, heads: Heads, name: str, *, window: int | None, zero: int) -> Any:
    """Attention's output: quantized if heads are whole groups (`quantizes`), else float32.

    Arguments: q float32[n, heads * dim] (scaled), keys, values (see `Heads`), items int32[t, 4],
    tables int32[b, m], and the result: codes, scales, corrections; or float32[n, heads * dim].
    """
    dim, shared, lanes = heads.dim, heads.shared, isa.lanes
    parts_of_group = heads.heads // heads.kv_heads // shared
    width = heads.heads * dim
    with Kernel(name) as k:
        n, blocks, t, b, m = (k.size(one) for one in ("n", "blocks", "t", "b", "m"))
        q = k.buffer("q", (n, width), "float32")
        keys = k.buffer("keys", heads.key_shape(blocks), "float16")
        values = k.buffer("values", heads.value_shape(blocks), "float16")
        items = k.buffer("items", (t, ITEM_FIELDS), "int32")
        tables = k.buffer("tables", (b, m), "int32")
        whole = quantizes(heads)
        out = activation_buffers(k, n, width) if whole else (k.buffer("out", (n, width), "float32"),)
        q, keys, values, items, tables = map(flat, (q, keys, values, items, tables))
        out = tuple(flat(one) for one in out)
        most = heads.item_tokens
        units = heads.kv_heads * parts_of_group
        with T.parallel(t * units) as i:
            item = bind(T.floordiv(i, units) * ITEM_FIELDS)
            unit = bind(T.floormod(i, units))
            kv_head = bind(T.floordiv(unit, parts_of_group))
            first, count = bind(items[item]), bind(items[item + 1])
            table, position = bind(items[item + 2] * m), bind(items[item + 3])
            scratch = T.alloc_buffer((most * shared * (SPAN + dim + 2),), "float32")

            def run(tokens: int) -> None:
                queries, positions = [], []
                for row in range(tokens * shared):
                    token, head = divmod(row, shared)
                    # A short item repeats its last token; the copies are not written.
                    token = bind(T.min(T.int32(token), count - 1))
                    queries.append(bind((first + token) * width + (unit * shared + head) * dim))
                    positions.append(bind(position + token))
                rows = _Rows(tokens, shared, queries, positions)
                code = _Attend(isa, heads, window, rows, q, keys, values, tables, scratch)
                code.spans(table, kv_head, position, count)
                for row in range(tokens * shared):
                    token, head = divmod(row, shared)
                    with T.If(T.int32(token) < count), T.Then():
                        total = bind(T.float32(1) / scratch[code.sums + row])
                        source = code.outputs + row * dim
                        head = bind(unit * shared + head)

                        def scaled(at: Value, total: Value = total, source: int = source) -> Value:
                            return bind(load(scratch, bind(source + at), lanes) * fill(total, lanes))

                        if whole:
                            with T.serial(dim // GROUP) as g:
                                vectors = [scaled(g * GROUP + p * lanes) for p in range(GROUP // lanes)]
                                group = bind(head * (dim // GROUP) + g)
                                quantize_group(vectors, lanes, zero, out, bind(first + token), group, width)
                        else:
                            with T.serial(dim // lanes) as p:
                                to = bind((first + token) * width + head * dim + p * lanes)
                                store(out[0], to, scaled(p * lanes), lanes)

            if most == 1:
                run(1)
            else:
                with T.If(count == 1):
                    with T.Then():
                        run(1)
                    with T.Else():
                        run(most)
    return k.function


class _Attend:
    """Code for one unit of work. `scratch` holds scores [rows, SPAN], outputs [rows, dim], maxima, sums."""

    def __init__(
        self, isa: Isa, heads: Heads, window: int | None, rows: _Rows, q: Buffer, keys: Buffer,
        values: Buffer, tables: Buffer, scratch: Buffer,
    ) -> None:  # fmt: skip
        self.isa, self.heads, self.window, self.rows = isa, heads, window, rows
        self.q, self.keys, self.values, self.tables, self.scratch = q, keys, values, tables, scratch
        self.count = rows.tokens * rows.shared
        self.outputs = self.count * SPAN
        self.maxima = self.outputs + self.count * heads.dim
        self.sums = self.maxima + self.count

    def spans(self, table: Value, kv_head: Value, position: Value, count: Value) -> None:
        lanes, dim = self.isa.lanes, self.heads.dim
        with T.serial(self.count * dim // lanes) as i:
            store(self.scratch, bind(self.outputs + i * lanes), fill(0.0, lanes), lanes)
        for row in range(self.count):
            store(self.scratch, self.maxima + row, T.float32(_LOWEST), 1)
            store(self.scratch, self.sums + row, T.float32(0), 1)
        end = bind(position + count)
        begin: Value = T.int32(0)
        if self.window is not None:
            begin = bind(T.max(position - (self.window - 1), 0))
        first_span = bind(T.floordiv(begin, SPAN))
        with T.serial(bind(T.floordiv(end + (SPAN - 1), SPAN) - first_span)) as s:
            start = bind((first_span + s) * SPAN)
            first_block = bind(T.floordiv(T.max(start, begin), BLOCK_SIZE))
            last_block = bind(T.floordiv(T.min(start + SPAN, end) + (BLOCK_SIZE - 1), BLOCK_SIZE))
            with T.serial(bind(last_block - first_block)) as j:
                block = bind(first_block + j)
                page = self._page(table, block, kv_head)
                for part in range(BLOCK_SIZE // lanes):
                    self._scores(page, bind(block * BLOCK_SIZE - start), start, part)
            low = bind(first_block * BLOCK_SIZE - start)
            high = bind(last_block * BLOCK_SIZE - start)
            for row in range(self.count):
                self._soften(row, low, high)
            with T.serial(dim // lanes) as i:
                self._weigh(i, table, kv_head, first_block, last_block, start)

    def _page(self, table: Value, block: Value, kv_head: Value) -> Value:
        """Where the keys (and the values) of a block and head begin."""
        page = bind(T.cast(self.tables[table + block], "int64"))
        return bind((page * self.heads.kv_heads + kv_head) * (self.heads.dim * BLOCK_SIZE))

    def _some_rows(self) -> list[range]:
        """The rows in portions whose sums fit into registers."""
        most = 16 if self.isa.bits != 256 else 8
        return [range(start, min(start + most, self.count)) for start in range(0, self.count, most)]

    def _scores(self, page: Value, column: Value, start: Value, part: int) -> None:
        for rows in self._some_rows():
            self._scores_of(rows, page, column, start, part)

    def _scores_of(self, rows: range, page: Value, column: Value, start: Value, part: int) -> None:
        lanes = self.isa.lanes
        totals = registers("float32", lanes, len(rows))
        for total in totals:
            total.value = fill(0.0, lanes)
        step = 4
        with T.serial(self.heads.dim // step) as d4:
            for d in range(step):
                entry = bind(d4 * step + d)
                key = to_float(load(self.keys, bind(page + entry * BLOCK_SIZE + part * lanes), lanes), lanes)
                for row, total in zip(rows, totals, strict=True):
                    query = bind(self.q[self.rows.queries[row] + entry])
                    total.value = fma(fill(query, lanes), key, total.value, lanes)
        places = bind(T.Ramp(bind(start + column + part * lanes), 1, lanes))
        for row, total in zip(rows, totals, strict=True):
            position = self.rows.positions[row]
            seen = places <= T.Broadcast(position, lanes)
            score = bind(T.Select(seen, total.value, fill(_MASKED, lanes)))
            if self.window is not None:
                recent = places > T.Broadcast(bind(position - self.window), lanes)
                score = bind(T.Select(recent, score, fill(_MASKED, lanes)))
            store(self.scratch, bind(row * SPAN + column + part * lanes), score, lanes)

    def _soften(self, row: int, low: Value, high: Value) -> None:
        """Scores of a span into weights relative to the new maximum; what is there already is scaled to
        it.
        """
        lanes, dim = self.isa.lanes, self.heads.dim
        peak, total = registers("float32", lanes, 2)
        steps = bind(T.floordiv(high - low, lanes))
        peak.value = fill(_LOWEST, lanes)
        with T.serial(steps) as i:
            at = bind(row * SPAN + low + i * lanes)
            peak.value = maximum(peak.value, load(self.scratch, at, lanes))
        old = bind(self.scratch[self.maxima + row])
        new = bind(T.max(old, reduce_max(peak.value)))
        total.value = fill(0.0, lanes)
        with T.serial(steps) as i:
            at = bind(row * SPAN + low + i * lanes)
            weight = exp(bind(load(self.scratch, at, lanes) - fill(new, lanes)), lanes)
            total.value = bind(total.value + weight)
            store(self.scratch, at, weight, lanes)
        shrink = exp(fill(bind(old - new), lanes), lanes)
        with T.serial(dim // lanes) as i:
            at = bind(self.outputs + row * dim + i * lanes)
            store(self.scratch, at, bind(load(self.scratch, at, lanes) * shrink), lanes)
        (keep,) = registers("float32", lanes, 1)
        keep.value = bind(shrink * fill(bind(self.scratch[self.sums + row]), lanes))
        both = bind(reduce_add(total.value, lanes) + reduce_add(keep.value, lanes) * T.float32(1 / lanes))
        store(self.scratch, self.sums + row, both, 1)
        store(self.scratch, self.maxima + row, new, 1)

    def _weigh(
        self, i: Value, table: Value, kv_head: Value, first_block: Value, last_block: Value, start: Value
    ) -> None:
        """Add the span's weighted values to entries i * lanes and following of every row."""
        for rows in self._some_rows():
            self._weigh_rows(rows, i, table, kv_head, first_block, last_block, start)

    def _weigh_rows(
        self, rows: range, i: Value, table: Value, kv_head: Value, first_block: Value, last_block: Value,
        start: Value,
    ) -> None:  # fmt: skip
        lanes, dim = self.isa.lanes, self.heads.dim
        totals = registers("float32", lanes, len(rows))
        for row, total in zip(rows, totals, strict=True):
            total.value = load(self.scratch, bind(self.outputs + row * dim + i * lanes), lanes)
        with T.serial(bind(last_block - first_block)) as j:
            block = bind(first_block + j)
            page = self._page(table, block, kv_head)
            column = bind(block * BLOCK_SIZE - start)
            with T.serial(BLOCK_SIZE // 4) as p4:
                for p in range(4):
                    place = bind(p4 * 4 + p)
                    value = to_float(load(self.values, bind(page + place * dim + i * lanes), lanes), lanes)
                    for row, total in zip(rows, totals, strict=True):
                        weight = bind(self.scratch[row * SPAN + column + place])
                        total.value = fma(fill(weight, lanes), value, total.value, lanes)
        for row, total in zip(rows, totals, strict=True):
            store(self.scratch, bind(self.outputs + row * dim + i * lanes), total.value, lanes)

"""Attention over one span of positions: scores, their weights, sums of weighted values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm.tirx.script.builder import ir as T

from edgellm.compile.heads import BLOCK_SIZE, SPAN, Heads
from edgellm.compile.isa import Isa
from edgellm.compile.kernels.vector import (
    Buffer,
    Value,
    bind,
    exp,
    fill,
    fma,
    halves,
    load,
    maximum,
    prefetch,
    reduce_add,
    reduce_max,
    registers,
    store,
    to_float,
)

ITEM_FIELDS = 5
"""An item: index of its first token in the step, number of tokens, sequence, position of that token, span.

The span is -1 for all of them; else the item stands for that span alone, and its neighbours for the others,
from the first on.
"""
LOWEST = -1e29
"""Where maxima start: above masked scores, so that those come out as zeros."""
_MASKED = -1e30
_MOST_SUMS = 16
_LINE = 64
_AHEAD = 4
"""Blocks ahead at which keys are asked for."""


@dataclass
class Partial:
    """Rows over some positions: sums of weighted values [rows, dim], largest scores [rows] that the weights
    are relative to, and sums of weights [rows]."""

    buffer: Buffer
    at: Value
    rows: int
    dim: int

    @staticmethod
    def size(rows: int, dim: int) -> int:
        """float32 numbers that one takes."""
        return rows * (dim + 2)

    def output(self, row: Value) -> Value:
        """Where the row's sums begin."""
        return bind(self.at + row * self.dim)

    def peak(self, row: Value) -> Value:
        return bind(self.at + self.rows * self.dim + row)

    def total(self, row: Value) -> Value:
        return bind(self.at + self.rows * (self.dim + 1) + row)


class Work:
    """One unit of work, the `i`th: what its item says, and where its arrays are."""

    def __init__(
        self, isa: Isa, heads: Heads, window: int | None, q: Buffer, keys: Buffer, values: Buffer,
        items: Buffer, tables: Buffer, i: Value, m: Value,
    ) -> None:  # fmt: skip
        self.isa, self.heads, self.window = isa, heads, window
        self.q, self.keys, self.values, self.tables = q, keys, values, tables
        item = bind(T.floordiv(i, heads.units) * ITEM_FIELDS)
        self.unit = bind(T.floormod(i, heads.units))
        self.kv_head = bind(T.floordiv(self.unit, heads.units // heads.kv_heads))
        self.first, self.count = bind(items[item]), bind(items[item + 1])
        self.table, self.position = bind(items[item + 2] * m), bind(items[item + 3])
        self.span = bind(items[item + 4])
        self.rows = bind(self.count * heads.shared)
        self.end = bind(self.position + self.count)
        self.begin: Value = T.int32(0)
        if window is not None:
            self.begin = bind(T.max(self.position - (window - 1), 0))
        # One allocation for all vector variables: TVM would put more of them on the heap.
        self.vectors = registers("float32", isa.lanes, _MOST_SUMS)
        self.first_span = bind(T.floordiv(self.begin, SPAN))
        self.end_span = bind(T.floordiv(self.end + (SPAN - 1), SPAN))

    def page(self, block: Value) -> Value:
        """Where the keys (and the values) of a block begin."""
        number = bind(T.cast(self.tables[self.table + block], "int64"))
        return bind((number * self.heads.kv_heads + self.kv_head) * self.heads.page)


@dataclass
class Span:
    """Code for span `number` of a unit of work.

    `scratch` receives scores [rows, SPAN], then scales of values [SPAN]; `part` the result.
    """

    unit: Work
    scratch: Buffer
    part: Partial
    number: Value

    def __post_init__(self) -> None:
        self.isa, self.heads = self.unit.isa, self.unit.heads
        self.start = bind(self.number * SPAN)
        stop = T.min(self.start + SPAN, self.unit.end)
        self.first = bind(T.floordiv(T.max(self.start, self.unit.begin), BLOCK_SIZE))
        self.end = bind(T.floordiv(stop + (BLOCK_SIZE - 1), BLOCK_SIZE))
        self.low = bind(self.first * BLOCK_SIZE - self.start)
        self.high = bind(self.end * BLOCK_SIZE - self.start)
        self.value_scales = self.part.rows * SPAN
        self._most_sums = _MOST_SUMS if self.isa.bits != 256 else _MOST_SUMS // 2

    def attend(self) -> None:
        self._by_tokens(self._scores)
        with T.serial(self.unit.rows) as row:
            self._soften(row)
        self._by_tokens(self._weigh)

    def _by_tokens(self, code: Callable[[int], None]) -> None:
        """`code` for one token, or for as many as an item may have."""
        most = self.heads.item_tokens
        if most == 1:
            code(1)
            return
        with T.If(self.unit.count == 1):
            with T.Then():
                code(1)
            with T.Else():
                code(most)

    def _portions(self, rows: int) -> list[range]:
        """Rows in portions whose sums fit into registers."""
        most = self._most_sums
        return [range(start, min(start + most, rows)) for start in range(0, rows, most)]

    def _scores(self, tokens: int) -> None:
        """Scores of all rows of `tokens` tokens, masked ones far below the rest."""
        unit, heads, lanes, shared = self.unit, self.heads, self.isa.lanes, self.heads.shared
        queries, positions = [], []
        for row in range(tokens * shared):
            # A short item repeats its last token; what comes of the copies is not used.
            token = bind(T.min(T.int32(row // shared), unit.count - 1))
            head = bind(unit.unit * shared + row % shared)
            queries.append(bind(((unit.first + token) * heads.heads + head) * heads.dim))
            positions.append(bind(unit.position + token))
        last = bind(T.floordiv(unit.end - 1, BLOCK_SIZE))
        if tokens == 1:
            self._ask_for_first_keys(last)
        with T.serial(bind(self.end - self.first)) as j:
            block = bind(self.first + j)
            page = unit.page(block)
            column = bind(T.cast(block * BLOCK_SIZE - self.start, "int64"))
            # Pages lie anywhere: the processor cannot tell which come next. Many rows hide that anyway.
            coming = unit.page(bind(T.min(block + _AHEAD, last))) if tokens == 1 else None
            for part in range(BLOCK_SIZE // lanes):
                at = bind(column + part * lanes)
                for rows in self._portions(tokens * shared):
                    totals = self._products(page, part, rows, queries, None if part else coming)
                    self._store_scores(page, part, at, rows, totals, positions)
                if heads.cache == "int8":
                    scales = self._scales(unit.values, page, part)
                    store(self.scratch, bind(self.value_scales + at), scales, lanes)

    def _ask_for_first_keys(self, last: Value) -> None:
        """Keys of the blocks that no earlier block asks for: in a short context they are most of it."""
        unit, line_entries = self.unit, _LINE // self.heads.entry_bytes
        with T.serial(_AHEAD) as j:
            page = unit.page(bind(T.min(self.first + j, last)))
            with T.serial(self.heads.dim * BLOCK_SIZE // line_entries) as line:
                prefetch(unit.keys, page + line * line_entries)

    def _products(
        self, page: Value, part: int, rows: range, queries: list[Value], coming: Value | None
    ) -> list[Value]:
        """Products of the rows' queries with `lanes` keys of a block."""
        unit, lanes, step = self.unit, self.isa.lanes, 4
        totals = unit.vectors[: len(rows)]
        for total in totals:
            total.value = fill(0.0, lanes)
        with T.serial(self.heads.dim // step) as d4:
            if coming is not None:
                for line in range(step * BLOCK_SIZE * self.heads.entry_bytes // _LINE):
                    ahead = bind(d4 * (step * BLOCK_SIZE) + line * (_LINE // self.heads.entry_bytes))
                    prefetch(unit.keys, coming + ahead)
                    prefetch(unit.values, page + ahead)
            for d in range(step):
                entry = bind(d4 * step + d)
                key = load(unit.keys, bind(page + entry * BLOCK_SIZE + part * lanes), lanes)
                key = to_float(key, lanes)
                for row, total in zip(rows, totals, strict=True):
                    query = bind(unit.q[queries[row] + entry])
                    total.value = fma(fill(query, lanes), key, total.value, lanes)
        return [total.value for total in totals]

    def _store_scores(
        self, page: Value, part: int, at: Value, rows: range, totals: list[Value], positions: list[Value]
    ) -> None:
        unit, lanes = self.unit, self.isa.lanes
        scales = self._scales(unit.keys, page, part) if self.heads.cache == "int8" else None
        places = bind(T.Ramp(bind(self.start + T.cast(at, "int32")), 1, lanes))
        for row, total in zip(rows, totals, strict=True):
            score = total if scales is None else bind(total * scales)
            seen = places <= T.Broadcast(positions[row], lanes)
            score = bind(T.Select(seen, score, fill(_MASKED, lanes)))
            if unit.window is not None:
                recent = places > T.Broadcast(bind(positions[row] - unit.window), lanes)
                score = bind(T.Select(recent, score, fill(_MASKED, lanes)))
            store(self.scratch, bind(row * SPAN + at), score, lanes)

    def _scales(self, cache: Buffer, page: Value, part: int) -> Value:
        """Of `lanes` tokens of an int8 page."""
        at = bind(page + self.heads.dim * BLOCK_SIZE + part * self.isa.lanes * 2)
        return halves(cache, at, self.isa.lanes)

    def _soften(self, row: Value) -> None:
        """A row's scores into weights relative to their maximum; with int8, times the scales of values."""
        lanes, scratch, part = self.isa.lanes, self.scratch, self.part
        peak, total = self.unit.vectors[:2]
        steps = bind(T.floordiv(self.high - self.low, lanes))
        peak.value = fill(LOWEST, lanes)
        with T.serial(steps) as i:
            at = bind(row * SPAN + self.low + i * lanes)
            peak.value = maximum(peak.value, load(scratch, at, lanes))
        highest = reduce_max(peak.value)
        total.value = fill(0.0, lanes)
        with T.serial(steps) as i:
            column = bind(self.low + i * lanes)
            at = bind(row * SPAN + column)
            weight = exp(bind(load(scratch, at, lanes) - fill(highest, lanes)), lanes)
            total.value = bind(total.value + weight)
            if self.heads.cache == "int8":
                weight = bind(weight * load(scratch, bind(self.value_scales + column), lanes))
            store(scratch, at, weight, lanes)
        store(part.buffer, part.total(row), reduce_add(total.value, lanes), 1)
        store(part.buffer, part.peak(row), highest, 1)

    def _weigh(self, tokens: int) -> None:
        """The sums of values times weights."""
        for rows in self._portions(tokens * self.heads.shared):
            vectors = self.heads.dim // self.isa.lanes
            # With few rows, several parts of a value at once: each weight is loaded once for all of them.
            most = max(1, self._most_sums // len(rows))
            parts = next(count for count in range(most, 0, -1) if vectors % count == 0)
            with T.serial(vectors // parts) as i:
                self._weigh_rows(rows, bind(i * (parts * self.isa.lanes)), parts)

    def _weigh_rows(self, rows: range, first: Value, parts: int) -> None:
        """For `parts` vectors from entry `first` of each value on."""
        unit, lanes, dim = self.unit, self.isa.lanes, self.heads.dim
        keys = [(row, part) for row in rows for part in range(parts)]
        totals = dict(zip(keys, unit.vectors[: len(keys)], strict=True))
        for total in totals.values():
            total.value = fill(0.0, lanes)
        with T.serial(bind(self.end - self.first)) as j:
            block = bind(self.first + j)
            page = unit.page(block)
            # 64 bits, so that a row's place is a constant distance away.
            column = bind(T.cast(block * BLOCK_SIZE - self.start, "int64"))
            with T.serial(BLOCK_SIZE // 4) as p4:
                for p in range(4):
                    place = bind(p4 * 4 + p)
                    at = bind(page + place * dim + first)
                    values = [
                        to_float(load(unit.values, bind(at + part * lanes), lanes), lanes)
                        for part in range(parts)
                    ]
                    for row in rows:
                        weight = fill(bind(self.scratch[row * SPAN + column + place]), lanes)
                        for part, value in enumerate(values):
                            total = totals[row, part]
                            total.value = fma(weight, value, total.value, lanes)
        for (row, part), total in totals.items():
            at = bind(self.part.at + row * dim + first + part * lanes)
            store(self.part.buffer, at, total.value, lanes)

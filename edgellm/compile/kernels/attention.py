"""Attention of a step's tokens over the paged cache: decodes and prompt chunks of many sequences in one call.

Work comes as items: up to a few neighbouring tokens of one sequence. An item and a key/value head are one
unit of parallel work; its rows are the item's tokens times the query heads that share the key/value head, so
keys and values are read once for all of them.

Context is taken in spans of 256 positions that begin at multiples of 256. Each span gives a partial result
relative to its own maximum, and partial results are merged in order (Milakov and Gimelshein 2018,
https://arxiv.org/abs/1805.02867). Masked positions add exact zeros, so a row's result depends neither on the
other rows, nor on how a prompt was cut into chunks, nor on whether one thread takes all spans of an item or
many take one each.
"""

from __future__ import annotations

from typing import Any

from tvm.tirx.script.builder import ir as T

from edgellm.compile.heads import SPAN, Heads
from edgellm.compile.isa import Isa
from edgellm.compile.kernels.activations import Activations, Float32Activations, activation_buffers
from edgellm.compile.kernels.span import ITEM_FIELDS, LOWEST, Partial, Span, Work
from edgellm.compile.kernels.vector import (
    Buffer,
    Kernel,
    bind,
    exp,
    fill,
    first_lane,
    flat,
    fma,
    load,
    store,
)

__all__ = ["ITEM_FIELDS", "attention", "output_form"]


def output_form(heads: Heads, form: Activations) -> Activations:
    """What `attention` writes if `form` is wanted: that, or float32 if heads are not whole groups of it."""
    return form if heads.dim % form.granule == 0 else Float32Activations()


def attention(isa: Isa, heads: Heads, name: str, *, window: int | None, form: Activations) -> Any:
    """Attention's output, n rows of heads * dim, as `output_form` has it.

    Arguments: q float32[n, heads * dim] (scaled), keys, values (see `Heads`), items int32[t, 5],
    tables int32[b, m], and the result.
    """
    form = output_form(heads, form)
    width = heads.heads * heads.dim
    with Kernel(name) as k:
        n, blocks, t, b, m = (k.size(one) for one in ("n", "blocks", "t", "b", "m"))
        q = k.buffer("q", (n, width), "float32")
        keys = k.buffer("keys", heads.cache_shape(blocks), heads.dtype)
        values = k.buffer("values", heads.cache_shape(blocks), heads.dtype)
        items = k.buffer("items", (t, ITEM_FIELDS), "int32")
        tables = k.buffer("tables", (b, m), "int32")
        out = activation_buffers(k, form, n, width)
        q, keys, values, items, tables = map(flat, (q, keys, values, items, tables))
        out = tuple(flat(one) for one in out)
        rows = heads.item_tokens * heads.shared
        size = Partial.size(rows, heads.dim)
        apart = bind(items[4] >= 0)
        # As large as q at most, and taken from memory only where something is written.
        partials = T.alloc_buffer((t * (heads.units * size),), "float32")
        with T.parallel(t * heads.units) as i:
            work = Work(isa, heads, window, q, keys, values, items, tables, i, m)
            scratch = T.alloc_buffer((rows * SPAN + SPAN + 2 * size,), "float32")
            part = Partial(scratch, rows * SPAN + SPAN, rows, heads.dim)
            whole = Partial(scratch, rows * SPAN + SPAN + size, rows, heads.dim)
            _clear(work, whole)
            alone = bind(work.span >= 0)
            first = bind(T.Select(alone, T.max(work.span, work.first_span), work.first_span))
            end = bind(T.Select(alone, work.span + 1, work.end_span))
            with T.serial(bind(T.max(end - first, 0))) as s:
                Span(work, scratch, part, bind(first + s)).attend()
                with T.If(alone):
                    with T.Then():
                        _copy(work, part, Partial(partials, bind(i * size), rows, heads.dim))
                    with T.Else():
                        _merge(work, part, whole)
            with T.If(T.Not(alone)), T.Then():
                _finish(work, whole, form, out, width)
        with T.If(apart), T.Then(), T.parallel(t * heads.units) as i:
            work = Work(isa, heads, window, q, keys, values, items, tables, i, m)
            with T.If(work.span == 0), T.Then():
                whole = Partial(T.alloc_buffer((size,), "float32"), 0, rows, heads.dim)
                _clear(work, whole)
                with T.serial(bind(work.end_span - work.first_span)) as s:
                    at = bind((i + (work.first_span + s) * heads.units) * size)
                    _merge(work, Partial(partials, at, rows, heads.dim), whole)
                _finish(work, whole, form, out, width)
    return k.function


def _clear(work: Work, whole: Partial) -> None:
    """Nothing seen so far."""
    lanes = work.isa.lanes
    with T.serial(work.rows * (work.heads.dim // lanes)) as i:
        store(whole.buffer, bind(whole.at + i * lanes), fill(0.0, lanes), lanes)
    with T.serial(work.rows) as row:
        store(whole.buffer, whole.peak(row), T.float32(LOWEST), 1)
        store(whole.buffer, whole.total(row), T.float32(0), 1)


def _copy(work: Work, part: Partial, to: Partial) -> None:
    lanes = work.isa.lanes
    with T.serial(work.rows * (work.heads.dim // lanes)) as i:
        value = load(part.buffer, bind(part.at + i * lanes), lanes)
        store(to.buffer, bind(to.at + i * lanes), value, lanes)
    with T.serial(work.rows) as row:
        store(to.buffer, to.peak(row), part.buffer[part.peak(row)], 1)
        store(to.buffer, to.total(row), part.buffer[part.total(row)], 1)


def _merge(work: Work, part: Partial, whole: Partial) -> None:
    """Add a partial result to the sum of those before it."""
    lanes = work.isa.lanes
    with T.serial(work.rows) as row:
        old, new = bind(whole.buffer[whole.peak(row)]), bind(part.buffer[part.peak(row)])
        peak = bind(T.max(old, new))
        shrink, weight = (exp(fill(bind(one - peak), lanes), lanes) for one in (old, new))
        with T.serial(work.heads.dim // lanes) as i:
            at = bind(whole.output(row) + i * lanes)
            kept = bind(load(whole.buffer, at, lanes) * shrink)
            added = load(part.buffer, bind(part.output(row) + i * lanes), lanes)
            store(whole.buffer, at, fma(added, weight, kept, lanes), lanes)
        sums = [fill(bind(one.buffer[one.total(row)]), lanes) for one in (whole, part)]
        total = fma(sums[1], weight, bind(sums[0] * shrink), lanes)
        store(whole.buffer, whole.total(row), first_lane(total), 1)
        store(whole.buffer, whole.peak(row), peak, 1)


def _finish(work: Work, whole: Partial, form: Activations, out: tuple[Buffer, ...], width: int) -> None:
    """Divide by the sums of weights and write."""
    lanes, dim, shared = work.isa.lanes, work.heads.dim, work.heads.shared
    with T.serial(work.rows) as row:
        token = bind(work.first + T.floordiv(row, shared))
        column = bind((work.unit * shared + T.floormod(row, shared)) * dim)
        factor = fill(bind(T.float32(1) / whole.buffer[whole.total(row)]), lanes)
        with T.serial(dim // form.granule) as g:
            vectors = []
            for part in range(form.granule // lanes):
                at = bind(whole.output(row) + g * form.granule + part * lanes)
                vectors.append(bind(load(whole.buffer, at, lanes) * factor))
            form.write(out, vectors, lanes, token, bind(column + g * form.granule), width)

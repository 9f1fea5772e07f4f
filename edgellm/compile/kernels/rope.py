"""What happens between the projections and attention: query and key norms, rotary embedding, the cache."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tvm.tirx.script.builder import ir as T

from edgellm.compile.heads import BLOCK_SIZE, Heads
from edgellm.compile.isa import Isa
from edgellm.compile.kernels.norm import for_rows, inverse_rms
from edgellm.compile.kernels.vector import (
    Buffer,
    Kernel,
    Value,
    bind,
    call,
    fill,
    flat,
    load,
    maximum,
    reduce_max,
    registers,
    store,
)
from edgellm.quantize.formats import LARGEST_HALF


def rotate_and_append(
    isa: Isa, heads: Heads, name: str, *, scale: float, norm_eps: float | None = None
) -> Any:
    """Rotated queries times `scale`; rotated keys and values go into the cache.

    Arguments: qkv float32[n, heads.qkv], positions int32[n], slots int32[n] (block * 16 + place in it),
    cosines, sines float32[context, rotary_dim / 2], (q_norm, k_norm float32[dim] if `norm_eps` is given,)
    keys, values (written, see `Heads`), q float32[n, heads * dim] (result).
    """
    dim = heads.dim
    with Kernel(name) as k:
        n, context, blocks = k.size("n"), k.size("context"), k.size("blocks")
        qkv = k.buffer("qkv", (n, heads.qkv), "float32")
        positions = k.buffer("positions", (n,), "int32")
        slots = k.buffer("slots", (n,), "int32")
        cosines = k.buffer("cosines", (context, heads.rotary_dim // 2), "float32")
        sines = k.buffer("sines", (context, heads.rotary_dim // 2), "float32")
        norms = [None, None]
        if norm_eps is not None:
            norms = [k.buffer("q_norm", (dim,), "float32"), k.buffer("k_norm", (dim,), "float32")]
        keys = k.buffer("keys", heads.cache_shape(blocks), heads.dtype)
        values = k.buffer("values", heads.cache_shape(blocks), heads.dtype)
        q = k.buffer("q", (n, heads.heads * dim), "float32")
        qkv, cosines, sines, keys, values, q = map(flat, (qkv, cosines, sines, keys, values, q))
        turn = _Turn(isa, heads, cosines, sines, norm_eps)

        def one(row: Value) -> None:
            position, slot = bind(positions[row]), bind(slots[row])
            block, place = bind(T.floordiv(slot, BLOCK_SIZE)), bind(T.floormod(slot, BLOCK_SIZE))
            start = bind(row * heads.qkv)
            with T.serial(heads.heads) as h:
                to = bind(row * (heads.heads * dim) + h * dim)
                turn(qkv, bind(start + h * dim), q, to, position, norms[0], scale)
            scratch = T.alloc_buffer((dim,), "float32", scope="local")
            lanes = math.gcd(dim, isa.lanes)
            with T.serial(heads.kv_heads) as h:
                page = bind((T.cast(block, "int64") * heads.kv_heads + h) * heads.page)
                turn(qkv, bind(start + (heads.heads + h) * dim), scratch, 0, position, norms[1], 1.0)
                encode = _encoder(heads, lanes, scratch, T.int32(0), keys, page, place)
                with T.serial(dim) as d:
                    store(keys, bind(page + d * BLOCK_SIZE + place), encode(bind(scratch[d]), 1), 1)
                source = bind(start + (heads.heads + heads.kv_heads + h) * dim)
                encode = _encoder(heads, lanes, qkv, source, values, page, place)
                with T.serial(dim // lanes) as i:
                    value = encode(load(qkv, bind(source + i * lanes), lanes), lanes)
                    store(values, bind(page + place * dim + i * lanes), value, lanes)

        for_rows(n, one)
    return k.function


class _Turn:
    """Norm and rotate one head."""

    def __init__(self, isa: Isa, heads: Heads, cosines: Buffer, sines: Buffer, eps: float | None) -> None:
        self._isa, self._heads, self._cosines, self._sines, self._eps = isa, heads, cosines, sines, eps

    def __call__(
        self,
        source: Buffer,
        at: Value,
        out: Buffer,
        to: Value,
        position: Value,
        norm: Buffer | None,
        scale: float,
    ) -> None:
        dim, half = self._heads.dim, self._heads.rotary_dim // 2
        factor: Value = T.float32(scale)
        if norm is not None:
            assert self._eps is not None
            narrow = math.gcd(dim, self._isa.lanes)
            rms = inverse_rms(self._isa, source, at, dim, self._eps) if narrow == self._isa.lanes else None
            if rms is None:
                raise ValueError(f"query and key norms need heads of a multiple of {self._isa.lanes} entries")
            factor = bind(rms * T.float32(scale))

        def entry(offset: Value, lanes: int) -> Value:
            value = bind(load(source, bind(at + offset), lanes) * fill(factor, lanes))
            return bind(value * load(norm, offset, lanes)) if norm is not None else value

        lanes = math.gcd(half, self._isa.lanes)
        with T.serial(half // lanes) as i:
            first, second = entry(bind(i * lanes), lanes), entry(bind(half + i * lanes), lanes)
            angle = bind(T.cast(position, "int64") * half + i * lanes)
            cos, sin = load(self._cosines, angle, lanes), load(self._sines, angle, lanes)
            store(out, bind(to + i * lanes), bind(first * cos - second * sin), lanes)
            store(out, bind(to + half + i * lanes), bind(second * cos + first * sin), lanes)
        if rest := dim - 2 * half:
            lanes = math.gcd(math.gcd(rest, 2 * half), self._isa.lanes)
            with T.serial(rest // lanes) as i:
                offset = bind(2 * half + i * lanes)
                store(out, bind(to + offset), entry(offset, lanes), lanes)


def _encoder(
    heads: Heads, lanes: int, source: Buffer, at: Value, cache: Buffer, page: Value, place: Value
) -> Callable[[Value, int], Value]:
    """What makes the cache's numbers of a token's `dim` numbers from source[at] on, which an int8 cache needs
    to see first: their scale goes into the page.
    """
    if heads.cache == "fp32":
        return lambda value, lanes: value
    if heads.cache == "fp16":
        return _half
    (peak,) = registers("float32", lanes, 1)
    peak.value = fill(0.0, lanes)
    with T.serial(heads.dim // lanes) as i:
        value = load(source, bind(at + i * lanes), lanes)
        peak.value = maximum(peak.value, call(f"float32x{lanes}", "llvm.fabs", value))
    scale = _half(bind(reduce_max(peak.value) * T.float32(1 / 127)), 1)
    store(cache, bind(page + heads.dim * BLOCK_SIZE + place * 2), T.reinterpret("int8x2", scale), 2)
    # Codes are rounded with the scale that is stored. A scale of zero has zeros only, or next to it.
    inverse = bind(T.float32(1) / T.max(T.cast(scale, "float32"), T.float32(1e-30)))

    def encode(value: Value, lanes: int) -> Value:
        suffix = f"x{lanes}" if lanes > 1 else ""
        rounded = call(f"float32{suffix}", "llvm.roundeven", bind(value * fill(inverse, lanes)))
        bounded = bind(T.max(T.min(rounded, fill(127.0, lanes)), fill(-127.0, lanes)))
        return bind(T.cast(T.cast(bounded, f"int32{suffix}"), f"int8{suffix}"))

    return encode


def _half(value: Value, lanes: int) -> Value:
    """fp16, held within its range: an infinity in the cache would spoil sums that it has no part in."""
    limit = fill(LARGEST_HALF, lanes)
    bounded = bind(T.max(T.min(value, limit), bind(-limit)))
    return bind(T.cast(bounded, f"float16x{lanes}" if lanes > 1 else "float16"))

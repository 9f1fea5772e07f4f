"""The largest logits of each row, and the logarithm of the sum of their exponentials, found on the device.

Chunks of 2,048 are sorted by a bitonic network (Batcher, 1968), their first 64 are candidates, and these are
sorted in the same way until 64 are left. Equal logits stand by id, so the order is the same everywhere.
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
    store,
    workgroup_sum,
)

TOP = 64
"""Entries that are kept of a row."""
CHUNK = 2048
MOST_CHUNKS = 256
_THREADS = 128
_LOWEST = -3.4028234e38


def chunks(count: int) -> int:
    """Workgroups for a row of `count` logits or candidates."""
    return -(-count // CHUNK)


def top_of_logits(vocabulary: int, row: int, name: str) -> GpuKernel:
    """The first launch: from each chunk of a row its candidates, its maximum, and its sum of exponentials.

    Arguments: logits float32[r * row], of which a row's first `vocabulary` count, values
    float32[r * chunks * TOP], ids int32 likewise, sums float32[r * chunks * 2].
    """
    parts = chunks(vocabulary)
    with KernelBuilder(name) as k:
        r = k.size("r")
        logits = k.buffer("logits", r * row, "float32")
        values = k.buffer("values", r * (parts * TOP), "float32", "write")
        ids = k.buffer("ids", r * (parts * TOP), "int32", "write")
        sums = k.buffer("sums", r * (parts * 2), "float32", "write")
        with k.launch((parts, "r"), (_THREADS,)) as ((part, line), (place,)):
            top, which = k.shared(CHUNK), k.shared(CHUNK, "int32")
            with T.serial(CHUNK // _THREADS) as turn:
                i = bind(turn * _THREADS + place)
                at = bind(part * CHUNK + i)
                inside = bind(T.min(at, vocabulary - 1))
                store(top, i, T.Select(at < vocabulary, logits[line * row + inside], T.float32(_LOWEST)))
                store(which, i, at)
            _sort(top, which, place, CHUNK)
            _keep(top, which, place, values, ids, bind(line * parts + part))
            total = Cell("float32")
            total.value = T.float32(0)
            with T.serial(CHUNK // _THREADS) as turn:
                i = bind(turn * _THREADS + place)
                weight = T.exp(top[i] - top[0])
                total.value = total.value + T.Select(part * CHUNK + i < vocabulary, weight, T.float32(0))
            with T.If(place < 1), T.Then():
                store(sums, (line * parts + part) * 2, top[0])
            barrier()
            store(top, place, total.value)
            workgroup_sum(top, place, _THREADS)
            with T.If(place < 1), T.Then():
                store(sums, (line * parts + part) * 2 + 1, top[0])
    return k.kernel


def top_of_candidates(count: int, name: str) -> GpuKernel:
    """A launch between: `count` candidates of a row become `chunks(count) * TOP`.

    Arguments: values float32[r * count], ids int32[r * count], values and ids of those that are left.
    """
    parts = chunks(count)
    with KernelBuilder(name) as k:
        r = k.size("r")
        old, old_ids = k.buffer("values", r * count, "float32"), k.buffer("ids", r * count, "int32")
        values = k.buffer("top", r * (parts * TOP), "float32", "write")
        ids = k.buffer("top_ids", r * (parts * TOP), "int32", "write")
        with k.launch((parts, "r"), (_THREADS,)) as ((part, line), (place,)):
            top, which = k.shared(CHUNK), k.shared(CHUNK, "int32")
            _load(old, old_ids, line, count, bind(part * CHUNK), top, which, place, CHUNK)
            _sort(top, which, place, CHUNK)
            _keep(top, which, place, values, ids, bind(line * parts + part))
    return k.kernel


def last_top(count: int, parts: int, name: str) -> GpuKernel:
    """The last launch: `count` candidates, one chunk at most, and the sums of `parts` chunks of logits.

    Arguments: values float32[r * count], ids int32[r * count], sums float32[r * parts * 2], top
    float32[r * TOP], top_ids int32[r * TOP], log_sums float32[r].
    """
    assert count <= CHUNK
    assert parts <= MOST_CHUNKS
    size = 1 << (count - 1).bit_length()
    with KernelBuilder(name) as k:
        r = k.size("r")
        old, old_ids = k.buffer("values", r * count, "float32"), k.buffer("ids", r * count, "int32")
        sums = k.buffer("sums", r * (parts * 2), "float32")
        values, ids = (
            k.buffer("top", r * TOP, "float32", "write"),
            k.buffer("top_ids", r * TOP, "int32", "write"),
        )
        log_sums = k.buffer("log_sums", r, "float32", "write")
        with k.launch(("r",), (_THREADS,)) as ((line,), (place,)):
            top, which = k.shared(max(size, _THREADS)), k.shared(size, "int32")
            _load(old, old_ids, line, count, T.int32(0), top, which, place, size)
            _sort(top, which, place, size)
            _keep(top, which, place, values, ids, line)
            most = bind(top[0])
            total = Cell("float32")
            total.value = T.float32(0)
            with T.serial(-(-parts // _THREADS)) as turn:
                at = bind(turn * _THREADS + place)
                with T.If(at < parts), T.Then():
                    pair = bind((line * parts + at) * 2)
                    total.value = total.value + sums[pair + 1] * T.exp(sums[pair] - most)
            barrier()
            store(top, place, total.value)
            workgroup_sum(top, place, _THREADS)
            with T.If(place < 1), T.Then():
                store(log_sums, line, most + T.log(top[0]))
    return k.kernel


def _load(
    values: Buffer, ids: Buffer, line: Value, count: int, first: Value, top: Buffer, which: Buffer,
    place: Value, size: int,
) -> None:  # fmt: skip
    """Candidates of a row into shared memory, with the lowest of all beyond their end."""
    with T.serial(-(-size // _THREADS)) as turn:
        i = bind(turn * _THREADS + place)
        with T.If(i < size), T.Then():
            at = bind(T.min(first + i, count - 1))
            inside = bind(first + i < count)
            store(top, i, T.Select(inside, values[line * count + at], T.float32(_LOWEST)))
            store(which, i, T.Select(inside, ids[line * count + at], T.int32(2**31 - 1)))


def _sort(top: Buffer, which: Buffer, place: Value, size: int) -> None:
    """The largest first; of equal ones, the lower id."""
    levels = size.bit_length() - 1
    with T.serial(levels) as level, T.serial(level + 1) as stage:
        barrier()
        distance = bind(T.shift_left(T.int32(1), level - stage))
        with T.serial(-(-size // 2 // _THREADS)) as turn:
            pair = bind(turn * _THREADS + place)
            low = bind(T.floordiv(pair, distance) * (2 * distance) + T.floormod(pair, distance))
            high = bind(low + distance)
            with T.If(pair < size // 2), T.Then():
                down = bind(T.cast(T.bitwise_and(T.shift_right(low, level + 1), T.int32(1)), "int32"))
                a, b, a_id, b_id = bind(top[low]), bind(top[high]), bind(which[low]), bind(which[high])
                # One of two different entries comes first, so "not before" turns the direction.
                before = T.Select(T.Or(b > a, T.And(b == a, b_id < a_id)), T.int32(1), T.int32(0))
                with T.If(bind(before) != down), T.Then():
                    store(top, low, b)
                    store(top, high, a)
                    store(which, low, b_id)
                    store(which, high, a_id)
    barrier()


def _keep(top: Buffer, which: Buffer, place: Value, values: Buffer, ids: Buffer, row: Value) -> None:
    with T.If(place < TOP), T.Then():
        store(values, row * TOP + place, top[place])
        store(ids, row * TOP + place, which[place])

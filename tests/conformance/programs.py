"""The conformance programs. Each is about one thing that a host may get wrong."""

from __future__ import annotations

import numpy as np
from tvm.tirx.script.builder import ir as T  # noqa: N812

from edgellm.compile.gpu.kernel import KernelBuilder, bind, lane, store, workgroup_sum
from edgellm.compile.plan.plan import Buffer, Rotary, Routine
from edgellm.compile.plan.sizes import ceil_div, mul
from tests.conformance.case import Case, Step, floats, launch


def scale() -> Case:
    """y = x * w + 0.123456789 in rows of 48, by workgroups of 32 threads."""
    width, threads = 48, 32
    with KernelBuilder("scale") as k:
        n = k.size("n")
        x, w = k.buffer("x", n * width, "float32"), k.buffer("w", width, "float32")
        y = k.buffer("y", n * width, "float32", "write")
        with k.launch((2, "n"), (threads,)) as ((part, row), (place,)):
            column = bind(part * threads + place)
            with T.If(column < width), T.Then():
                at = bind(row * width + column)
                store(y, at, x[at] * w[column] + T.float32(0.123456789))
    weight = floats(0, width)
    steps = []
    for count in (5, 1, 16):
        values = floats(count, count, width)
        steps.append(Step({"n": count}, {"x": values}, values * weight + np.float32(0.123456789)))
    return Case(
        "scale",
        "an input, a weight and an output; the grid follows the step's size; a constant with nine digits",
        [k.kernel],
        {"n": 16},
        [Buffer("x", "input", "float32", ("n", width)), Buffer("y", "output", "float32", ("n", width))],
        [Routine(16, (launch(k.kernel, "x", "w", "y"),))],
        "y",
        steps,
        weights={"w": weight},
    )


def reduce() -> Case:
    """Lengths of rows of 200 numbers, by way of a slot and of workgroup memory."""
    width, threads = 200, 64
    with KernelBuilder("squares") as squares:
        n = squares.size("n")
        x = squares.buffer("x", n * width, "float32")
        y = squares.buffer("y", n * width, "float32", "write")
        with squares.launch((ceil_div(mul("n", width), threads),), (threads,)) as ((block,), (place,)):
            at = bind(block * threads + place)
            with T.If(at < n * width), T.Then():
                store(y, at, x[at] * x[at])
    with KernelBuilder("lengths") as lengths:
        n = lengths.size("n")
        x, y = lengths.buffer("x", n * width, "float32"), lengths.buffer("y", n, "float32", "write")
        with lengths.launch(("n",), (threads,)) as ((row,), (place,)):
            sums = lengths.shared(threads)
            total = T.alloc_buffer((1,), "float32", scope="local")
            store(total, 0, T.float32(0))
            with T.serial(-(-width // threads)) as turn:
                at = bind(turn * threads + place)
                with T.If(at < width), T.Then():
                    store(total, 0, total[0] + x[row * width + at])
            store(sums, place, total[0])
            workgroup_sum(sums, place, threads)
            with T.If(place < 1), T.Then():
                store(y, row, T.sqrt(sums[0]))
    steps = []
    for count in (3, 12, 1):
        values = floats(10 + count, count, width)
        expected = np.sqrt((values.astype(np.float64) ** 2).sum(1)).astype(np.float32)
        steps.append(Step({"n": count}, {"x": values}, expected))
    return Case(
        "reduce",
        "two launches in order with a slot between, workgroup memory and barriers, a grid that is a quotient",
        [squares.kernel, lengths.kernel],
        {"n": 12},
        [
            Buffer("x", "input", "float32", ("n", width)),
            Buffer("between", "slot", "uint8", (["*", "n", 4 * width],)),
            Buffer("y", "output", "float32", ("n",)),
        ],
        [Routine(12, (launch(squares.kernel, "x", "between"), launch(lengths.kernel, "between", "y")))],
        "y",
        steps,
    )


def cache() -> Case:
    """Rows go into places of a cache; then the places that a table names are added up."""
    width = 8
    with KernelBuilder("append") as append:
        n, blocks = append.size("n"), append.size("blocks")
        x = append.buffer("x", n * width, "float32")
        places = append.buffer("places", n, "int32")
        kept = append.buffer("kept", blocks * width, "float32", "write")
        with append.launch(("n",), (width,)) as ((row,), (i,)):
            store(kept, places[row] * width + i, x[row * width + i])
    with KernelBuilder("gather") as gather:
        n, m, blocks = gather.size("n"), gather.size("m"), gather.size("blocks")
        kept = gather.buffer("kept", blocks * width, "float32")
        tables = gather.buffer("tables", n * m, "int32")
        y = gather.buffer("y", n * width, "float32", "write")
        with gather.launch(("n",), (width,)) as ((row,), (i,)):
            total = T.alloc_buffer((1,), "float32", scope="local")
            store(total, 0, T.float32(0))
            with T.serial(m) as j:
                store(total, 0, total[0] + kept[tables[row * m + j] * width + i])
            store(y, row * width + i, total[0])
    blocks, memory, steps = 16, np.zeros((16, width), np.float32), []
    for count, columns, seed in ((2, 3, 0), (5, 2, 1), (3, 4, 2), (1, 1, 3)):
        random = np.random.RandomState(seed)
        values, rows = floats(20 + seed, count, width), random.permutation(blocks)[:count].astype(np.int32)
        tables = random.randint(0, blocks, (count, columns)).astype(np.int32)
        memory[rows] = values
        steps.append(
            Step(
                {"n": count, "m": columns, "blocks": blocks},
                {"x": values, "places": rows, "tables": tables},
                memory[tables].sum(1, dtype=np.float32),
            )
        )
    return Case(
        "cache",
        "a cache that begins as zeros and is kept between steps; int32 tables; sizes that the host chooses",
        [append.kernel, gather.kernel],
        {"n": 5, "m": 0, "blocks": 0},
        [
            Buffer("x", "input", "float32", ("n", width)),
            Buffer("places", "input", "int32", ("n",)),
            Buffer("tables", "input", "int32", ("n", "m")),
            Buffer("kept", "cache", "float32", ("blocks", width)),
            Buffer("y", "output", "float32", ("n", width)),
        ],
        [
            Routine(
                5,
                (launch(append.kernel, "x", "places", "kept"), launch(gather.kernel, "kept", "tables", "y")),
            )
        ],
        "y",
        steps,
        chosen={"m": 4, "blocks": blocks},
    )


def routines() -> Case:
    """x plus 1, 2 or 3: which of three routines ran."""
    buffers = [Buffer("x", "input", "float32", ("n",)), Buffer("y", "output", "float32", ("n",))]
    kernels, made, limits = [], [], (1, 8, 64)
    for index, most in enumerate(limits):
        with KernelBuilder(f"add{index + 1}") as k:
            n = k.size("n")
            x, y = k.buffer("x", n, "float32"), k.buffer("y", n, "float32", "write")
            with k.launch(("n",), (1,)) as ((row,), (_,)):
                store(y, row, x[row] + T.float32(index + 1))
        kernels.append(k.kernel)
        made.append(Routine(most, (launch(k.kernel, "x", "y"),)))
    steps = []
    for count in (1, 2, 8, 9, 64):
        values = floats(30 + count, count)
        added = 1 + sum(count > most for most in limits)
        steps.append(Step({"n": count}, {"x": values}, values + np.float32(added)))
    return Case(
        "routines", "a step takes the first routine that holds it", kernels, {"n": 64}, buffers, made, "y",
        steps,
    )  # fmt: skip


def grid() -> Case:
    """72,800 workgroups in two dimensions, each leaving a mark that tells where it was."""
    columns, rows = 1040, 70
    with KernelBuilder("mark") as mark:
        n = mark.size("n")
        y = mark.buffer("y", n * columns, "float32", "write")
        with mark.launch((columns, "n"), (1,)) as ((column, row), (_,)):
            store(y, row * columns + column, T.cast(column + 10000 * row, "float32"))
    with KernelBuilder("total") as total:
        n = total.size("n")
        x = total.buffer("x", n * columns, "float32")
        y = total.buffer("y", n, "float32", "write")
        with total.launch(("n",), (64,)) as ((row,), (place,)):
            sums = total.shared(64)
            one = T.alloc_buffer((1,), "float32", scope="local")
            store(one, 0, T.float32(0))
            with T.serial(-(-columns // 64)) as turn:
                at = bind(turn * 64 + place)
                with T.If(at < columns), T.Then():
                    store(
                        one, 0, one[0] + (x[row * columns + at] - T.cast(row, "float32") * T.float32(10000))
                    )
            store(sums, place, one[0])
            workgroup_sum(sums, place, 64)
            with T.If(place < 1), T.Then():
                store(y, row, sums[0] + T.cast(row, "float32"))
    inside = columns * (columns - 1) // 2
    steps = [Step({"n": count}, {}, (inside + np.arange(count)).astype(np.float32)) for count in (rows, 3)]
    return Case(
        "grid",
        "more than 65,535 workgroups, over two dimensions; kernels that take no size; a step without inputs",
        [mark.kernel, total.kernel],
        {"n": rows},
        [
            Buffer("marks", "slot", "uint8", (["*", "n", 4 * columns],)),
            Buffer("y", "output", "float32", ("n",)),
        ],
        [Routine(rows, (launch(mark.kernel, "marks"), launch(total.kernel, "marks", "y")))],
        "y",
        steps,
    )


def scalars() -> Case:
    """Sizes as digits of a number."""
    with KernelBuilder("digits") as k:
        sizes = [k.size(name) for name in ("n", "c", "a", "m", "b")]
        y = k.buffer("y", sizes[0], "float32", "write")
        with k.launch((["min", "n", ["+", "a", ["max", "b", "m"]]],), (1,)) as ((row,), (_,)):
            number = sizes[0]
            for size in sizes[1:]:
                number = number * 10 + size
            store(y, row, T.cast(number, "float32"))
    steps = []
    for n, c, a, m, b in ((1, 2, 3, 4, 5), (4, 9, 1, 3, 2), (7, 1, 1, 6, 8)):
        value = (((n * 10 + c) * 10 + a) * 10 + m) * 10 + b
        expected = np.full(min(n, a + max(b, m)), value, np.float32)
        steps.append(Step({"n": n, "c": c, "a": a, "m": m, "b": b}, {}, expected))
    return Case(
        "scalars",
        "sizes go to a kernel in its own order, which is not the plan's; several operators in a grid",
        [k.kernel],
        {"n": 7, "c": 9, "a": 9, "m": 9, "b": 9},
        [Buffer("y", "output", "float32", ("n",))],
        [Routine(7, (launch(k.kernel, "y"),))],
        "y",
        steps,
    )


def rotary() -> Case:
    """Rows of a table of angles, far positions among them."""
    pairs, context = 4, 40000
    frequencies = (1.0, 0.1, 0.037, 1e-4)
    with KernelBuilder("look_up") as k:
        n, size = k.size("n"), k.size("context")
        angles = k.buffer("angles", size * (2 * pairs), "float32")
        positions = k.buffer("positions", n, "int32")
        y = k.buffer("y", n * (2 * pairs), "float32", "write")
        with k.launch(("n",), (2 * pairs,)) as ((row,), (i,)):
            store(y, row * (2 * pairs) + i, angles[positions[row] * (2 * pairs) + i])
    positions = np.array([0, 1, 5, 4097, context - 1], np.int32)
    turned = np.outer(positions.astype(np.float64), frequencies)
    expected = 1.25 * np.concatenate([np.cos(turned), np.sin(turned)], 1)
    return Case(
        "rotary",
        "a table that the host fills, with angles computed in double precision",
        [k.kernel],
        {"n": 5, "context": 0},
        [
            Buffer("angles", "table", "float32", ("context", 2 * pairs)),
            Buffer("positions", "input", "int32", ("n",)),
            Buffer("y", "output", "float32", ("n", 2 * pairs)),
        ],
        [Routine(5, (launch(k.kernel, "angles", "positions", "y"),))],
        "y",
        [Step({"n": 5, "context": context}, {"positions": positions}, expected.astype(np.float32))],
        chosen={"context": context},
        rotary=[Rotary("angles", frequencies, 1.25)],
    )


def packed() -> Case:
    """A product with 4-bit weights, eight to a word, read four words at a time, from two shards."""
    inputs, outputs = 32, 64
    with KernelBuilder("product") as k:
        n = k.size("n")
        x = k.buffer("x", n * inputs, "float32")
        words = k.buffer("words", outputs, "uint32x4")
        scales = k.buffer("scales", outputs, "float32")
        y = k.buffer("y", n * outputs, "float32", "write")
        with k.launch(("n",), (outputs,)) as ((row,), (output,)):
            four = bind(words[output])
            total = T.alloc_buffer((1,), "float32", scope="local")
            store(total, 0, T.float32(0))
            for i in range(inputs):
                word = lane(four, i // 8)
                code = T.bitwise_and(T.shift_right(word, T.uint32(i % 8 * 4)), T.uint32(15))
                weight = T.cast(T.cast(code, "int32") - 8, "float32")
                store(total, 0, total[0] + x[row * inputs + i] * weight)
            store(y, row * outputs + output, total[0] * scales[output])
    random = np.random.RandomState(7)
    codes = random.randint(0, 16, (outputs, inputs))
    shifted = codes.reshape(outputs, 4, 8).astype(np.uint32) << (np.arange(8, dtype=np.uint32) * 4)
    scale = (np.abs(floats(8, outputs)) + np.float32(0.25)).astype(np.float32)
    steps = []
    for count in (1, 6):
        values = floats(40 + count, count, inputs)
        expected = (values.astype(np.float64) @ (codes - 8).T * scale).astype(np.float32)
        steps.append(Step({"n": count}, {"x": values}, expected))
    return Case(
        "packed",
        "weights of two shards, one of them not at its beginning; words of which all 32 bits count",
        [k.kernel],
        {"n": 6},
        [Buffer("x", "input", "float32", ("n", inputs)), Buffer("y", "output", "float32", ("n", outputs))],
        [Routine(6, (launch(k.kernel, "x", "words", "scales", "y"),))],
        "y",
        steps,
        weights={"unused": scale[:3], "scales": scale, "words": shifted.sum(2, dtype=np.uint32)},
        tolerance=1e-5,
    )


def half() -> Case:
    """A running sum in a float16 cache, of inputs and weights in float16."""
    width = 32
    with KernelBuilder("half_sum") as k:
        n = k.size("n")
        x, w = k.buffer("x", n * width, "float16"), k.buffer("w", width, "float16")
        kept = k.buffer("kept", width, "float16", "readwrite")
        y = k.buffer("y", width, "float32", "write")
        with k.launch((1,), (width,)) as ((_,), (i,)):
            with T.serial(n) as row:
                store(kept, i, kept[i] + x[row * width + i] * w[i])
            store(y, i, T.cast(kept[i], "float32"))
    weight = np.sign(floats(9, width)).astype(np.float16) * np.float16(0.5)
    memory, steps = np.zeros(width, np.float16), []
    for count in (2, 3):
        values = np.round(floats(50 + count, count, width) * 4).astype(np.float16)
        for row in values:
            memory = memory + row * weight
        steps.append(Step({"n": count}, {"x": values}, memory.astype(np.float32)))
    return Case(
        "half",
        "float16 inputs, weights and cache; a device without float16 must be refused",
        [k.kernel],
        {"n": 3},
        [
            Buffer("x", "input", "float16", ("n", width)),
            Buffer("kept", "cache", "float16", (width,)),
            Buffer("y", "output", "float32", (width,)),
        ],
        [Routine(3, (launch(k.kernel, "x", "w", "kept", "y"),))],
        "y",
        steps,
        weights={"w": weight},
        arithmetic="fp16",
    )


CASES = (scale, reduce, cache, routines, grid, scalars, rotary, packed, half)

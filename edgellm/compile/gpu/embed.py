"""Rows of the embedding matrix, as float32."""

from __future__ import annotations

from tvm.tirx.script.builder import ir as T

from edgellm.compile.gpu.kernel import GpuKernel, KernelBuilder, bind, store
from edgellm.compile.gpu.tokens import FIELDS, ID
from edgellm.compile.gpu.weights import Matrix
from edgellm.quantize.formats import GROUP

THREADS = 64


def embed(
    vocabulary: int, width: int, bits: int, name: str, *, factor: float, first: int = 0, half: bool = False
) -> GpuKernel:
    """y[n, width] = factor * the tokens' rows, for tokens whose row is among the matrix's: it holds
    `vocabulary` of them, from `first` on.

    Arguments: tokens int32[n * FIELDS], w, (s,) y float32[n * width].
    """
    groups = -(-width // GROUP)
    with KernelBuilder(name) as k:
        n = k.size("n")
        tokens = k.buffer("tokens", n * FIELDS, "int32")
        matrix = Matrix(k, vocabulary, groups * GROUP, bits, half=half)
        y = k.buffer("y", n * width, "float32", "write")
        with k.launch((-(-groups // THREADS), "n"), (THREADS,)) as ((part, row), (place,)):
            group = bind(part * THREADS + place)
            output = bind(tokens[row * FIELDS + ID] - first)
            with T.If(T.And(group < groups, T.And(output >= 0, output < vocabulary))), T.Then():
                weights = matrix.group(group, output)
                scale = (
                    T.float32(factor) if weights.scale is None else bind(weights.scale * T.float32(factor))
                )
                for j in range(GROUP):
                    store(y, row * width + group * GROUP + j, weights.weight(j) * scale)
    return k.kernel

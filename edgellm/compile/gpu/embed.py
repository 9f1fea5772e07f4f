"""Rows of the embedding matrix, as float32."""

from __future__ import annotations

from tvm.tirx.script.builder import ir as T

from edgellm.compile.gpu.kernel import GpuKernel, KernelBuilder, bind, store
from edgellm.compile.gpu.tokens import FIELDS, ID
from edgellm.compile.gpu.weights import Matrix
from edgellm.quantize.gpu_layout import GROUP

THREADS = 32


def embed(vocabulary: int, width: int, bits: int, name: str, *, factor: float) -> GpuKernel:
    """y[n, width] = factor * the tokens' rows.

    Arguments: tokens int32[n * FIELDS], w, (s,) y float32[n * width].
    """
    groups = -(-width // GROUP)
    with KernelBuilder(name) as k:
        n = k.size("n")
        tokens = k.buffer("tokens", n * FIELDS, "int32")
        matrix = Matrix(k, vocabulary, groups * GROUP, bits)
        y = k.buffer("y", n * width, "float32", "write")
        with k.launch((-(-groups // THREADS), "n"), (THREADS,)) as ((part, row), (place,)):
            group = bind(part * THREADS + place)
            with T.If(group < groups), T.Then():
                weights = matrix.group(group, bind(tokens[row * FIELDS + ID]))
                scale = T.float32(factor) if weights.scale is None else bind(weights.scale * T.float32(factor))
                for j in range(GROUP):
                    store(y, row * width + group * GROUP + j, weights.weight(j) * scale)
    return k.kernel

"""Model variables that are read, converted and written a few rows at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from ctranslate2.specs.model_spec import Variable
from numpy.typing import NDArray

from edgellm.backends.cpu import compute_threads
from edgellm.quantize.int8 import quantize_rows

Float32s = NDArray[np.float32]
ReadRows = Callable[[int, int], Float32s]
"""(first row, row after the last) -> float32[rows, columns]."""

_CHUNK_VALUES = 1 << 20
_THREADS = min(4, compute_threads())


@dataclass(frozen=True)
class Block:
    """Rows of a matrix that come from one parameter."""

    rows: int
    read: ReadRows


class Matrix(Variable):  # type: ignore[misc]
    """A matrix [rows, columns] made of blocks stacked along the rows, as float32 or row-wise int8.

    `chunks` converts it; the scales of an int8 matrix exist once it has run to its end.
    """

    def __init__(
        self, blocks: Sequence[Block], columns: int, *, int8: bool, done: Callable[[], None]
    ) -> None:
        self._blocks = tuple(blocks)
        self._columns = columns
        self._int8 = int8
        self._done = done
        self._rows = sum(block.rows for block in blocks)
        self._scales: Float32s | None = None

    @property
    def shape(self) -> list[int]:
        return [self._rows, self._columns]

    @property
    def dtype(self) -> str:
        return "int8" if self._int8 else "float32"

    def num_bytes(self) -> int:
        return self._rows * self._columns * (1 if self._int8 else 4)

    def chunks(self) -> Iterator[NDArray[Any]]:
        """The matrix in order, some rows at a time; a few threads work ahead of the reader."""
        scales = np.empty(self._rows, np.float32)
        pending: deque[Future[NDArray[Any]]] = deque()
        with ThreadPoolExecutor(_THREADS) as pool:
            for task in self._tasks(scales):
                pending.append(pool.submit(task))
                if len(pending) > _THREADS:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        self._scales = scales
        self._done()

    def scales(self) -> Float32s:
        """float32[rows] of an int8 matrix."""
        if self._scales is None:
            for _ in self.chunks():
                pass
        assert self._scales is not None
        return self._scales

    def numpy(self) -> NDArray[Any]:
        return np.concatenate(list(self.chunks()))

    def to_bytes(self) -> bytes:
        return self.numpy().tobytes()

    def _tasks(self, scales: Float32s) -> Iterator[Callable[[], NDArray[Any]]]:
        first, step = 0, max(1, _CHUNK_VALUES // self._columns)
        for block in self._blocks:
            for start in range(0, block.rows, step):
                stop = min(start + step, block.rows)
                yield self._task(block.read, start, stop, scales[first + start : first + stop])
            first += block.rows

    def _task(self, read: ReadRows, start: int, stop: int, scales: Float32s) -> Callable[[], NDArray[Any]]:
        def convert() -> NDArray[Any]:
            weight = read(start, stop)
            if not self._int8:
                return weight
            values = np.empty(weight.shape, np.int8)
            quantize_rows(weight, values, scales)
            return values

        return convert

    def _to(self, dtype: str) -> Variable:
        raise NotImplementedError(f"a matrix of {self.dtype} stays one")

    def _equal(self, other: Variable) -> bool:
        return self is other


class Scales(Variable):  # type: ignore[misc]
    """The scales of an int8 matrix, which is written before them (variables are in order of their names)."""

    def __init__(self, matrix: Matrix) -> None:
        self._matrix = matrix

    @property
    def shape(self) -> list[int]:
        return self._matrix.shape[:1]

    @property
    def dtype(self) -> str:
        return "float32"

    def num_bytes(self) -> int:
        return 4 * self.shape[0]

    def numpy(self) -> NDArray[Any]:
        return self._matrix.scales()

    def to_bytes(self) -> bytes:
        return self.numpy().tobytes()

    def _to(self, dtype: str) -> Variable:
        raise NotImplementedError("scales stay float32")

    def _equal(self, other: Variable) -> bool:
        return self is other

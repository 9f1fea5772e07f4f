"""Running plans on NVIDIA's GPUs, through their driver alone."""

from __future__ import annotations

import contextlib
import ctypes
import time
from collections.abc import Mapping, Sequence
from ctypes import c_int32, c_size_t, c_uint64, c_void_p
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgellm.adapters import Adapter
from edgellm.backends.executor import Float32s
from edgellm.backends.plan.host import lost, no_device, no_kernel, no_memory
from edgellm.backends.plan.launches import Grids, buffer_bytes, routine_of
from edgellm.backends.plan.weights import Buffers
from edgellm.compile.plan.plan import Plan, Routine
from edgellm.cuda_driver import NON_BLOCKING, Context, CudaError, driver

_PIECE = 16 << 20
"""Bytes of weights handed over at once."""
_KEPT = 64
"""Combinations of grids whose launches are kept, as they are handed to the driver."""


class CudaHost:
    """See `Host`. All work goes through one stream, which keeps its order."""

    def __init__(
        self, plan: Plan, sources: Mapping[str, str], weights: Buffers, sizes: Mapping[str, int],
        adapter: Adapter,
    ) -> None:  # fmt: skip
        """Allocate, compile and upload.

        Args:
            sources: PTX by the text's file name. sizes: the largest of each. adapter: one of CUDA.

        Raises:
            UnsupportedError: the device has no room, or its driver refuses a kernel.
        """
        self.adapter, self._plan = adapter, plan
        self.submitted = self.waited = 0.0
        self._buffers: dict[str, int] = {}
        self._modules: list[c_void_p] = []
        try:
            self._driver = driver()
            self._context: Context | None = Context(adapter.handle.ordinal)
        except CudaError as error:
            raise no_device(adapter, error) from error
        try:
            self._stream = c_void_p(self._driver.get("cuStreamCreate", c_void_p, NON_BLOCKING))
            self._allocate(plan, sizes)
            for name in plan.weights:
                self._upload(name, weights[name])
            functions = self._compile(plan, sources)
        except CudaError as error:
            self.close()
            raise no_device(adapter, error) from error
        except BaseException:
            self.close()
            raise
        self._grids = Grids(plan)
        self._names = sorted(plan.sizes)
        self._sizes = (c_int32 * len(self._names))()
        """Where the scalars of all launches point to; the driver reads them when a launch is handed over."""
        self._routines = [self._prepare(routine, functions) for routine in plan.routines]

    def write(self, name: str, values: NDArray[Any]) -> None:
        """See `Host.write`."""
        self._enter()
        try:
            kept = self._send(name, values)
            self._driver.call("cuStreamSynchronize", self._stream)
            del kept
        except CudaError as error:
            raise lost(self.adapter, error) from error

    def run(
        self, inputs: Mapping[str, NDArray[Any]], sizes: Mapping[str, int], outputs: Mapping[str, int]
    ) -> dict[str, Float32s]:
        """See `Host.run`."""
        try:
            kept = self.submit(inputs, sizes)
            self.submitted = time.perf_counter()
            results = {name: np.empty(count, np.float32) for name, count in outputs.items()}
            for name, result in results.items():
                address = result.ctypes.data
                buffer = self._buffers[name]
                self._driver.call("cuMemcpyDtoHAsync_v2", address, buffer, result.nbytes, self._stream)
            self._driver.call("cuStreamSynchronize", self._stream)
            self.waited = time.perf_counter() - self.submitted
            del kept
            return results
        except CudaError as error:
            raise lost(self.adapter, error) from error

    def submit(self, inputs: Mapping[str, NDArray[Any]], sizes: Mapping[str, int]) -> list[NDArray[Any]]:
        """Queue a step; the arrays returned must live until it has run."""
        self._enter()
        kept = [self._send(name, values) for name, values in inputs.items()]
        for index, name in enumerate(self._names):
            self._sizes[index] = sizes.get(name, 0)
        launches = self._routines[routine_of(self._plan, sizes["n"])].launches(self._grids.of(sizes))
        launch = self._driver.functions["cuLaunchKernel"]
        failed = 0
        for arguments in launches:
            failed |= launch(*arguments)
        if failed:
            raise self._driver.error("cuLaunchKernel", failed)
        return kept

    def copy(self, pieces: Mapping[str, int], source: int, target: int) -> None:
        """See `Host.copy`."""
        if source == target:
            return
        self._enter()
        try:
            for name, size in pieces.items():
                buffer = self._buffers[name]
                self._driver.call(
                    "cuMemcpyDtoDAsync_v2", buffer + target * size, buffer + source * size, size, self._stream
                )
        except CudaError as error:
            raise lost(self.adapter, error) from error

    def close(self) -> None:
        """See `Host.close`."""
        if self._context is None:
            return
        functions = self._driver.functions
        # After an error of the device every call fails, and nothing is left to be freed.
        with contextlib.suppress(CudaError):
            self._context.enter()
            if stream := getattr(self, "_stream", None):
                functions["cuStreamSynchronize"](stream)
                functions["cuStreamDestroy_v2"](stream)
            for module in self._modules:
                functions["cuModuleUnload"](module)
            for address in self._buffers.values():
                functions["cuMemFree_v2"](address)
        self._context.close()
        self._context, self._buffers, self._modules, self._routines = None, {}, [], []

    def _enter(self) -> None:
        """Before anything else: the calling thread may be another one than the last."""
        assert self._context is not None
        self._context.enter()

    def _send(self, name: str, values: NDArray[Any]) -> NDArray[Any]:
        """Fill the beginning of a buffer; the array returned must live until that has happened."""
        values = np.ascontiguousarray(values)
        address = values.ctypes.data
        self._driver.call("cuMemcpyHtoDAsync_v2", self._buffers[name], address, values.nbytes, self._stream)
        return values

    def _buffer(self, name: str, size: int) -> int:
        try:
            address = int(self._driver.get("cuMemAlloc_v2", c_uint64, c_size_t(size)))
        except CudaError as error:
            raise no_memory(self.adapter, f"the buffer {name}", size, error) from error
        self._buffers[name] = address
        return address

    def _allocate(self, plan: Plan, sizes: Mapping[str, int]) -> None:
        caches = {one.name for one in plan.buffers if one.kind == "cache"}
        for name, size in buffer_bytes(plan, sizes).items():
            address = self._buffer(name, size)
            if name in caches:
                self._driver.call("cuMemsetD8Async", address, 0, size, self._stream)

    def _upload(self, name: str, values: NDArray[np.uint8]) -> None:
        """Pieces of the mapped files, one after the other."""
        address = self._buffer(name, -(-len(values) // 16) * 16)
        for at in range(0, len(values), _PIECE):
            piece = values[at : at + _PIECE]
            self._driver.call(
                "cuMemcpyHtoDAsync_v2", address + at, piece.ctypes.data, len(piece), self._stream
            )
            self._driver.call("cuStreamSynchronize", self._stream)

    def _compile(self, plan: Plan, sources: Mapping[str, str]) -> dict[str, int]:
        """Kernels by name, as the driver knows them."""
        functions = {}
        for kernel in plan.kernels:
            try:
                module = self._driver.load(sources[kernel.source])
                self._modules.append(module)
                name = kernel.entry.encode()
                functions[kernel.name] = self._driver.get("cuModuleGetFunction", c_void_p, module, name)
            except CudaError as error:
                raise no_kernel(self.adapter, kernel.name, error) from error
        return functions

    def _prepare(self, routine: Routine, functions: Mapping[str, int]) -> _Routine:
        launches = []
        place = {name: ctypes.addressof(self._sizes) + 4 * i for i, name in enumerate(self._names)}
        for launch in routine.launches:
            kernel = self._plan.kernel(launch.kernel)
            pointers = (c_uint64 * len(launch.arguments))(*(self._buffers[one] for one in launch.arguments))
            first = ctypes.addressof(pointers)
            values = [first + 8 * i for i in range(len(pointers))] + [place[one] for one in kernel.scalars]
            parameters = (c_void_p * len(values))(*values)
            launches.append(
                _Launch(kernel.name, functions[kernel.name], kernel.threads, pointers, parameters)
            )
        return _Routine(launches, self._stream)


class _Launch:
    """One launch: its function, and where the values of its parameters stand."""

    __slots__ = ("function", "kernel", "parameters", "pointers", "threads")

    def __init__(
        self, kernel: str, function: int, threads: tuple[int, int, int], pointers: Any, parameters: Any
    ) -> None:
        self.kernel, self.function, self.threads = kernel, c_void_p(function), threads
        self.pointers, self.parameters = pointers, parameters


class _Routine:
    """A routine's launches as arguments of cuLaunchKernel, made once for each combination of grids."""

    def __init__(self, launches: Sequence[_Launch], stream: c_void_p) -> None:
        self._launches, self._stream = launches, stream
        self._known: dict[int, tuple[Mapping[str, Any], list[tuple[Any, ...]]]] = {}

    def launches(self, grids: Mapping[str, tuple[int, int, int]]) -> list[tuple[Any, ...]]:
        """Arguments of each launch. `grids` are those of `Grids.of`, one object for each combination."""
        known = self._known.get(id(grids))
        if known is None or known[0] is not grids:
            if len(self._known) >= _KEPT:
                self._known.clear()
            arguments = [
                (one.function, *grids[one.kernel], *one.threads, 0, self._stream, one.parameters, None)
                for one in self._launches
            ]
            known = self._known[id(grids)] = (grids, arguments)
        return known[1]

"""NVIDIA's driver, called directly: the few functions that a host of plans needs.

Names, types and numbers are those of cuda.h, as the reference of the CUDA Driver API has them. Nothing but
the driver has to be installed.
"""

from __future__ import annotations

import ctypes
import sys
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_ubyte, c_uint, c_uint64, c_void_p
from dataclasses import dataclass
from functools import cache
from typing import Any

LIBRARIES = {"win32": "nvcuda.dll"}
"""The driver's library on each system; elsewhere `LIBRARY`."""
LIBRARY = "libcuda.so.1"
OLDEST = (6, 0)
"""Compute capability that programs are compiled for (`edgellm.compile.gpu.ptx.ARCHITECTURE`)."""

_POINTER = c_uint64
_FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuDriverGetVersion": (POINTER(c_int),),
    "cuGetErrorName": (c_int, POINTER(c_char_p)),
    "cuGetErrorString": (c_int, POINTER(c_char_p)),
    "cuDeviceGetCount": (POINTER(c_int),),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDeviceGetName": (c_char_p, c_int, c_int),
    "cuDeviceTotalMem_v2": (POINTER(c_size_t), c_int),
    "cuDeviceGetAttribute": (POINTER(c_int), c_int, c_int),
    "cuDevicePrimaryCtxRetain": (POINTER(c_void_p), c_int),
    "cuDevicePrimaryCtxRelease_v2": (c_int,),
    "cuCtxSetCurrent": (c_void_p,),
    "cuMemGetInfo_v2": (POINTER(c_size_t), POINTER(c_size_t)),
    "cuMemAlloc_v2": (POINTER(_POINTER), c_size_t),
    "cuMemFree_v2": (_POINTER,),
    "cuMemsetD8Async": (_POINTER, c_ubyte, c_size_t, c_void_p),
    "cuMemcpyHtoDAsync_v2": (_POINTER, c_void_p, c_size_t, c_void_p),
    "cuMemcpyDtoHAsync_v2": (c_void_p, _POINTER, c_size_t, c_void_p),
    "cuMemcpyDtoDAsync_v2": (_POINTER, _POINTER, c_size_t, c_void_p),
    "cuStreamCreate": (POINTER(c_void_p), c_uint),
    "cuStreamSynchronize": (c_void_p,),
    "cuStreamDestroy_v2": (c_void_p,),
    "cuModuleLoadDataEx": (POINTER(c_void_p), c_char_p, c_uint, POINTER(c_int), POINTER(c_void_p)),
    "cuModuleGetFunction": (POINTER(c_void_p), c_void_p, c_char_p),
    "cuModuleUnload": (c_void_p,),
    "cuLaunchKernel": (c_void_p, *[c_uint] * 7, c_void_p, c_void_p, c_void_p),
}
# CU_DEVICE_ATTRIBUTE_: MAX_THREADS_PER_BLOCK, MAX_SHARED_MEMORY_PER_BLOCK, INTEGRATED, and
# COMPUTE_CAPABILITY_MAJOR and _MINOR.
_THREADS, _SHARED, _INTEGRATED, _MAJOR, _MINOR = 1, 8, 18, 75, 76
_NO_DEVICE = 100
_ERROR_LOG, _ERROR_LOG_BYTES = 5, 6
"""CU_JIT_ERROR_LOG_BUFFER and its size."""
_LOG_BYTES = 4096
NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING: the stream does not wait for what other users of the device do in this process."""


class CudaError(Exception):
    """The driver refused a call."""


class NoDriverError(CudaError):
    """The driver is not there, or cannot start."""


class Driver:
    """The driver's functions by their names; `call` checks what they return."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.functions: dict[str, Any] = {}
        for name, types in _FUNCTIONS.items():
            try:
                function = getattr(library, name)
            except AttributeError:
                raise NoDriverError(f"NVIDIA's driver has no {name}: it is too old") from None
            function.argtypes, function.restype = types, c_int
            self.functions[name] = function

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function.

        Raises:
            CudaError: it did not succeed.
        """
        if status := self.functions[name](*arguments):
            raise self.error(name, status)

    def error(self, name: str, status: int) -> CudaError:
        """What a function meant by its status."""
        texts = []
        for function in ("cuGetErrorName", "cuGetErrorString"):
            text = c_char_p()
            self.functions[function](status, byref(text))
            texts.append((text.value or b"").decode(errors="replace"))
        return CudaError(f"{name}: {texts[0] or f'error {status}'}{', ' if texts[1] else ''}{texts[1]}")

    def get(self, name: str, kind: Any, *arguments: Any) -> Any:
        """What a function puts where its first argument points."""
        value = kind()
        self.call(name, byref(value), *arguments)
        return value.value

    def load(self, ptx: str) -> Any:
        """A module, compiled by the driver for the current device.

        Raises:
            CudaError: with what its compiler said.
        """
        log = ctypes.create_string_buffer(_LOG_BYTES)
        options = (c_int * 2)(_ERROR_LOG, _ERROR_LOG_BYTES)
        values = (c_void_p * 2)(ctypes.addressof(log), _LOG_BYTES)
        module = c_void_p()
        status = self.functions["cuModuleLoadDataEx"](byref(module), ptx.encode(), 2, options, values)
        if status:
            said = log.value.decode(errors="replace").strip()
            raise CudaError(f"{said} ({self.error('cuModuleLoadDataEx', status)})")
        return module


@cache
def driver() -> Driver:
    """The driver, started.

    Raises:
        NoDriverError: it is not installed, or cannot start; says why.
    """
    name = LIBRARIES.get(sys.platform, LIBRARY)
    try:
        found = Driver(ctypes.CDLL(name))
    except OSError:
        raise NoDriverError(f"NVIDIA's driver is not installed here ({name} cannot be loaded)") from None
    if status := found.functions["cuInit"](0):
        if status == _NO_DEVICE:
            raise NoDriverError("NVIDIA's driver sees no GPU (is it hidden by CUDA_VISIBLE_DEVICES?)")
        raise NoDriverError(f"NVIDIA's driver does not start ({found.error('cuInit', status)})")
    return found


@dataclass(frozen=True)
class CudaDevice:
    """A GPU as the driver sees it.

    Attributes:
        ordinal: the driver's number. memory: bytes in all. capability: major, minor.
        threads: of a block. shared_bytes: of its memory. integrated: it has the machine's memory.
    """

    ordinal: int
    name: str
    memory: int
    capability: tuple[int, int]
    threads: int
    shared_bytes: int
    integrated: bool

    def free_bytes(self) -> int:
        """Free memory, once this process has what it needs to use the device at all."""
        with Context(self.ordinal):
            free, total = c_size_t(), c_size_t()
            driver().call("cuMemGetInfo_v2", byref(free), byref(total))
            return free.value


def version() -> str:
    """The newest CUDA that the driver speaks, such as "12.4"."""
    number = driver().get("cuDriverGetVersion", c_int)
    return f"{number // 1000}.{number % 1000 // 10}"


def devices() -> list[CudaDevice]:
    """All GPUs that programs can run on, as CUDA_VISIBLE_DEVICES lets them be seen.

    Raises:
        NoDriverError: see `driver`.
    """
    found = [_device(ordinal) for ordinal in range(driver().get("cuDeviceGetCount", c_int))]
    return [one for one in found if one.capability >= OLDEST]


def _device(ordinal: int) -> CudaDevice:
    cuda = driver()
    device = cuda.get("cuDeviceGet", c_int, ordinal)
    name = ctypes.create_string_buffer(256)
    cuda.call("cuDeviceGetName", name, len(name), device)

    def attribute(number: int) -> int:
        return int(cuda.get("cuDeviceGetAttribute", c_int, number, device))

    return CudaDevice(
        ordinal=ordinal,
        name=name.value.decode(errors="replace"),
        memory=cuda.get("cuDeviceTotalMem_v2", c_size_t, device),
        capability=(attribute(_MAJOR), attribute(_MINOR)),
        threads=attribute(_THREADS),
        shared_bytes=attribute(_SHARED),
        integrated=bool(attribute(_INTEGRATED)),
    )


class Context:
    """A device's primary context, which all users of the device in this process share; held until `close`."""

    def __init__(self, ordinal: int) -> None:
        """Hold it, and make it the calling thread's.

        Raises:
            CudaError: the device cannot be used.
        """
        self._driver = driver()
        self._device = self._driver.get("cuDeviceGet", c_int, ordinal)
        self._handle = c_void_p(self._driver.get("cuDevicePrimaryCtxRetain", c_void_p, self._device))
        self.enter()

    def enter(self) -> None:
        """Make it the calling thread's: what a call is about, the driver takes from that."""
        self._driver.call("cuCtxSetCurrent", self._handle)

    def close(self) -> None:
        """Let go of it."""
        self._driver.functions["cuCtxSetCurrent"](None)
        self._driver.functions["cuDevicePrimaryCtxRelease_v2"](self._device)

    def __enter__(self) -> Context:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

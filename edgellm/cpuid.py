"""What an x86-64 processor says of itself, for systems that do not pass it on: the instruction CPUID, which
no library of Python's calls.

Leaves and bits are those of the Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2A,
CPUID.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Callable
from typing import Any

_CODE = bytes.fromhex(
    "53"  # push rbx, which CPUID overwrites and callers want back
    "49 89 c9"  # mov r9, rcx: where the answer goes
    "89 d0"  # mov eax, edx: the leaf
    "44 89 c1"  # mov ecx, r8d: the subleaf
    "0f a2"  # cpuid
    "41 89 01  41 89 59 04  41 89 49 08  41 89 51 0c"  # mov [r9], eax; ebx; ecx; edx
    "5b c3"  # pop rbx; ret
)
"""A function of (uint32[4], leaf, subleaf) with the calling convention of Windows."""
_ELSEWHERE = bytes.fromhex(
    "48 89 f9  41 89 d0  89 f2"  # mov rcx, rdi; mov r8d, edx; mov edx, esi
)
"""Before it: arguments of the System V convention moved to where Windows has them."""

_LEAF = 7
_BITS = (
    # Subleaf, register (0: EAX to 3: EDX), bit, name.
    (0, 1, 5, "AVX2"), (0, 1, 16, "AVX-512F"), (0, 1, 17, "AVX-512DQ"), (0, 1, 30, "AVX-512BW"),
    (0, 1, 31, "AVX-512VL"), (0, 2, 11, "AVX-512-VNNI"), (1, 0, 4, "AVX-VNNI"), (1, 0, 5, "AVX-512-BF16"),
)  # fmt: skip


def cpuid_features() -> set[str]:
    """Vector instructions of an x86-64 processor, whether or not the system lets programs use them.

    Raises:
        OSError: the system gives no memory for code.
    """
    with_code = _on_windows if sys.platform == "win32" else _elsewhere
    return with_code(_read)


def _read(address: int) -> set[str]:
    """The features, from the function at `address`."""
    registers = (ctypes.c_uint32 * 4)()
    ask = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint32)(address)

    def leaf(number: int, part: int) -> list[int]:
        ask(ctypes.addressof(registers), number, part)
        return list(registers)

    if leaf(0, 0)[0] < _LEAF:
        return set()
    parts = {part: leaf(_LEAF, part) for part in range(min(leaf(_LEAF, 0)[0], 1) + 1)}
    return {name for part, register, bit, name in _BITS if part in parts and parts[part][register] >> bit & 1}


def _elsewhere(use: Callable[[int], set[str]]) -> set[str]:
    code = _ELSEWHERE + _CODE
    with mmap.mmap(-1, len(code), prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as memory:
        memory.write(code)
        place = ctypes.c_char.from_buffer(memory)
        found = use(ctypes.addressof(place))
        del place  # a map that is referred to cannot be closed
        return found


def _on_windows(use: Callable[[int], set[str]]) -> set[str]:
    kernel: Any = getattr(ctypes, "windll").kernel32  # noqa: B009 (other systems lack it)
    kernel.VirtualAlloc.restype = ctypes.c_void_p
    reserve_and_commit, read_write, execute_read, release = 0x3000, 0x04, 0x20, 0x8000
    address = kernel.VirtualAlloc(None, ctypes.c_size_t(len(_CODE)), reserve_and_commit, read_write)
    if not address:
        raise OSError("VirtualAlloc gives no memory")
    place = ctypes.c_void_p(address)
    try:
        ctypes.memmove(place, _CODE, len(_CODE))
        before = ctypes.c_uint32()
        if not kernel.VirtualProtect(place, ctypes.c_size_t(len(_CODE)), execute_read, ctypes.byref(before)):
            raise OSError("VirtualProtect allows no code")
        return use(address)
    finally:
        kernel.VirtualFree(place, ctypes.c_size_t(0), release)

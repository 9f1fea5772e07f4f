"""What a dynamic linker sees of an ELF file of 64 bits, little-endian (System V ABI, chapters 4 and 5)."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

AARCH64, X86_64 = 183, 62
_LOAD, _DYNAMIC, _INTERPRETER, _STACK, _RELRO = 1, 2, 3, 0x6474E551, 0x6474E552
_NEEDED, _STRTAB, _SYMTAB, _SONAME, _TEXTREL, _FLAGS, _HASH, _GNU_HASH, _FLAGS_1 = (
    *(1, 5, 6, 14, 22, 30, 4),
    *(0x6FFFFEF5, 0x6FFFFFFB),
)


@dataclass
class Elf:
    """The parts that tests look at."""

    machine: int
    alignments: list[int] = field(default_factory=list)
    """Of loaded segments."""
    writable_code: bool = False
    """Whether a loaded segment can be written and executed."""
    executable_stack: bool = True
    relro: bool = False
    bind_now: bool = False
    text_relocations: bool = False
    interpreter: str = ""
    soname: str = ""
    needed: list[str] = field(default_factory=list)
    imported: set[str] = field(default_factory=set)
    exported: set[str] = field(default_factory=set)
    congruent: bool = True
    """Whether addresses and offsets of segments agree modulo their alignment, as mapping needs."""


def read_elf(path: Path) -> Elf:
    data = path.read_bytes()
    assert data[:6] == b"\x7fELF\x02\x01"
    machine, table, size, count = struct.unpack_from("<18xH12xQ14xHH", data)
    elf = Elf(machine)
    loads: list[tuple[int, int, int]] = []
    dynamic: dict[int, list[int]] = {}
    for i in range(count):
        kind, flags, offset, address, _, bytes, _, align = struct.unpack_from(
            "<IIQQQQQQ", data, table + i * size
        )
        if kind == _LOAD:
            loads.append((address, offset, bytes))
            elf.alignments.append(align)
            elf.writable_code |= flags & 3 == 3
            elf.congruent &= address % align == offset % align
        elif kind == _DYNAMIC:
            for at in range(offset, offset + bytes, 16):
                tag, value = struct.unpack_from("<QQ", data, at)
                if tag == 0:
                    break
                dynamic.setdefault(tag, []).append(value)
        elif kind == _STACK:
            elf.executable_stack = bool(flags & 1)
        elif kind == _INTERPRETER:
            elf.interpreter = data[offset : offset + bytes].rstrip(b"\0").decode()
        elf.relro |= kind == _RELRO

    def place(address: int) -> int:
        """Where in the file an address is loaded from."""
        return next(
            offset + address - start for start, offset, size in loads if start <= address < start + size
        )

    def text(at: int) -> str:
        start = place(dynamic[_STRTAB][0]) + at
        return data[start : data.index(b"\0", start)].decode()

    elf.needed = [text(at) for at in dynamic.get(_NEEDED, [])]
    elf.soname = "".join(text(at) for at in dynamic.get(_SONAME, []))
    elf.text_relocations = _TEXTREL in dynamic or bool(dynamic.get(_FLAGS, [0])[0] & 4)
    elf.bind_now = bool(dynamic.get(_FLAGS, [0])[0] & 8 or dynamic.get(_FLAGS_1, [0])[0] & 1)
    [symbols], [hash] = dynamic[_SYMTAB], dynamic[_HASH]
    _, length = struct.unpack_from("<II", data, place(hash))
    for i in range(1, length):
        name, _, _, section, _, _ = struct.unpack_from("<IBBHQQ", data, place(symbols) + i * 24)
        (elf.exported if section else elf.imported).add(text(name))
    return elf

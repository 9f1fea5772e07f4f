"""Writes src/unicode_tables.c. Needs Python 3.11 and `pip install unicodedata2==16.0.0`.

The `tokenizers` library splits by the categories of Unicode 16 and composes by those of Unicode 14 or older
(characters that came later are left alone), and so does this.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path

import unicodedata2

CLASSES = ["Lu", "Ll", "Lt", "Lm", "Lo", "M", "N", "P", "S"]
SPACES = {*range(9, 14), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F}
SPACES.add(0x3000)
POINTS = [point for point in range(0x110000) if not 0xD800 <= point < 0xE000]


def main() -> None:
    assert unicodedata.unidata_version == "14.0.0" and unicodedata2.unidata_version == "16.0.0"
    decompositions = [(point, *pair(point)) for point in POINTS if pair(point)]
    composed = {
        (first, second): index
        for index, (point, first, second) in enumerate(decompositions)
        if second and unicodedata.normalize("NFC", chr(point)) == chr(point)
    }
    text = "/* Made by tools/unicode_tables.py from the Unicode character database. */\n"
    text += '#include "unicode.h"\n\n'
    text += "/* First character << 8 | class, of every run of characters of one class. */\n"
    text += array("ell_class_runs", "uint32_t", [p << 8 | c for p, c in runs(class_of)])
    text += "/* First character << 8 | canonical combining class, of every run. */\n"
    text += array("ell_combining_runs", "uint32_t", [p << 8 | c for p, c in runs(combining)])
    text += "/* Character, and the one or two that it decomposes into. */\n"
    text += array("ell_decompositions", "uint32_t", [n for row in decompositions for n in row])
    text += "/* Decompositions that are undone, as places in the above, by what they decompose into. */\n"
    text += array("ell_compositions", "uint16_t", [composed[key] for key in sorted(composed)])
    (Path(__file__).parent.parent / "src" / "unicode_tables.c").write_text(text.rstrip() + "\n")


def class_of(point: int) -> int:
    category = unicodedata2.category(chr(point))
    if point in SPACES:
        return len(CLASSES) + 1
    return next((i + 1 for i, name in enumerate(CLASSES) if category.startswith(name)), 0)


def combining(point: int) -> int:
    return unicodedata.combining(chr(point))


def pair(point: int) -> tuple[int, int] | None:
    found = unicodedata.decomposition(chr(point))
    if not found or found.startswith("<"):
        return None
    numbers = [int(one, 16) for one in found.split()]
    return numbers[0], numbers[1] if len(numbers) > 1 else 0


def runs(of: Callable[[int], int]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for point in POINTS:
        value = of(point)
        if not found or found[-1][1] != value:
            found.append((point, value))
    return found


def array(name: str, kind: str, numbers: list[int]) -> str:
    lines = []
    for at in range(0, len(numbers), 12):
        lines.append("    " + " ".join(f"0x{number:X}," for number in numbers[at : at + 12]))
    body = "\n".join(lines)
    return f"const {kind} {name}[] = {{\n{body}\n}};\nconst size_t {name}_count = {len(numbers)};\n\n"


if __name__ == "__main__":
    main()

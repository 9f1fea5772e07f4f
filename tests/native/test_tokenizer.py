"""The C core's tokenizer gives the ids and the texts of the `tokenizers` library, for every family."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from edgellm.resources import data_dir
from tests.native.tokenizers_of_families import CORPUS, FAMILIES

TEXTS = 10_000
_PIECES = [
    " ", "  ", "\n", "\r\n", "\t", "\u00a0", "\u3000", "\u2028", "\u0085", "'s", "'S", "'\u017f", "'Ll",
    "'RE", "\u2019t", "'", "\u2581", "\u2581\u2581", "<0x41>", "<unk>", "<s>", "<|im_start|>",
    "<|im_end|>", "<|user|>", "<think>", "<left>", "Bundle Name", "\n\n\n", "<|im_", "e\u0301",
    "\u1100\u1161\u11a8", "\u0344", "a\u0327\u0301", "\u212b", "\ufb01", "\u00df", "\u0130", "\u01c5",
    "\u00aa", "\u00bd", "\u0663", "\u200d", '\U0001f469\u200d\U0001f469\u200d\U0001f467',
    '\U0001f1e9\U0001f1ea', "\ufffd", "\ufeff", "\u0000", "\u001f", "\u007f", "\u0120", "\u010a",
    '\U0010ffff', "\u0610", "123", "1234567", "3.14", "//", "/*", "...", "!?", "\\", '"', "_", "\u00ad",
]  # fmt: skip


def texts(seed: int, count: int = TEXTS) -> list[str]:
    """Random ones: pieces that tokenizers treat in ways of their own, words, characters of all planes."""
    rng = random.Random(seed)
    words = " ".join(CORPUS).split(" ")
    planes = [
        (0x20, 0x7F),
        (0x80, 0x250),
        (0x250, 0x2000),
        (0x2000, 0xD800),
        (0xE000, 0x20000),
        (0x20000, 0x110000),
    ]
    marks = "a" + "\u0301\u0327\u0345\u0300" * 200
    found = [marks, "", " ", "  a", "a  ", " " * 3000, "a" * 3000, "\n" * 999, "é" * 500, *CORPUS]
    while len(found) < count:
        parts = []
        for _ in range(rng.randrange(1, 24)):
            kind = rng.randrange(5)
            if kind < 2:
                parts.append(rng.choice(_PIECES))
            elif kind == 2:
                parts.append(rng.choice(words))
            elif kind == 3:
                parts.append(" " + rng.choice(words))
            else:
                parts.append(chr(rng.randrange(*rng.choice(planes))) * rng.randrange(1, 3))
        found.append("".join(parts))
    return found[:count]


@pytest.fixture
def program(programs: dict[str, Path]) -> Path:
    return programs["tokenize"]


def answers(program: Path, file: Path, wanted: list[str]) -> list[tuple[list[int], str]]:
    """Ids of each text, and what these decode to."""
    data = b"".join(b"%d\n" % len(one.encode()) + one.encode() for one in wanted)
    run = subprocess.run([program, file], input=data, capture_output=True)
    assert run.returncode == 0, run.stderr.decode()
    found = []
    for line in run.stdout.decode().splitlines():
        ids, _, text = line.partition("|")
        found.append(([int(one) for one in ids.split()], bytes.fromhex(text).decode()))
    return found


def compare(program: Path, file: Path, tokenizer: Tokenizer, wanted: list[str]) -> None:
    found = answers(program, file, wanted)
    assert len(found) == len(wanted)
    for text, (ids, decoded) in zip(wanted, found, strict=True):
        assert ids == tokenizer.encode(text, add_special_tokens=False).ids, repr(text)
        assert decoded == tokenizer.decode(ids, skip_special_tokens=False), repr(text)


@pytest.mark.parametrize("family", FAMILIES)
def test_family(program: Path, family: str, tmp_path: Path) -> None:
    tokenizer = FAMILIES[family]()
    file = tmp_path / "tokenizer.json"
    tokenizer.save(str(file))
    compare(program, file, tokenizer, texts(len(family)))


def test_demo(program: Path) -> None:
    file = data_dir("models") / "demo" / "tokenizer.json"
    compare(program, file, Tokenizer.from_file(str(file)), texts(1))


def test_every_character(program: Path, tmp_path: Path) -> None:
    """Each character's class and normal form, beside characters that show them."""
    tokenizer = FAMILIES["qwen-2, qwen-3"]()
    file = tmp_path / "tokenizer.json"
    tokenizer.save(str(file))
    # Nothing is assigned from U+32000 up to U+E0000, nor beyond but for private use.
    points = [*range(0xD800), *range(0xE000, 0x32000), *range(0xE0000, 0xE1000)]
    wanted = ["".join(f"a{chr(p)}1" for p in points[at : at + 512]) for at in range(0, len(points), 512)]
    compare(program, file, tokenizer, wanted)


def test_what_is_not_implemented_is_refused(program: Path, tmp_path: Path) -> None:
    tokenizer = FAMILIES["llama-3"]()
    good = tokenizer.to_str()
    for old, new in (
        ('"type":"ByteLevel","add_prefix_space":false', '"type":"Punctuation","add_prefix_space":false'),
        ("(?!", "(?<!"),
        ('"type":"BPE"', '"type":"Unigram"'),
    ):
        assert old in good
        file = tmp_path / "tokenizer.json"
        file.write_text(good.replace(old, new, 1))
        run = subprocess.run([program, file], input=b"1\na", capture_output=True)
        assert run.returncode == 1
        assert len(run.stderr.splitlines()) == 1

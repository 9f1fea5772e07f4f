"""Rows for intents whose slots are numbers or names, so that some can be kept out of training.

Each generator takes a random source and returns one row. A number row is held out of training when
`is_heldout` says so, which depends on its numbers alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from random import Random

Row = dict[str, str]

# Held as text, one word a name, because a list would take a line for each.
_NAMES = """
    Ana Ben Carla David Eva Felix Grace Hugo Ines Jonas Karin Leo Maria Nico Olga Paul Rosa Sam Tara Uwe Vera
    Willem Yara Zoe Ali Bea Chen Dina Emil Fatima Georg Hana Ivan Julia Kofi Lena Marco Nora Omar Petra Ravi
    Sara Tom Ulla Victor Wanda Xenia Yusuf Anna Bob Clara Dan Emma Frank John Kate Mike Peter Susan Noël Zoë
    José Chloé
"""
_HELDOUT_NAMES = "Alice Boris Celia Dario Elena Fred Gita Henry Irene Jack Lucy Martin Nadia Oscar Renée"
_SYLLABLES = "ba be bi bo da de di ka ko la li lo ma mi na no ra re ri ro sa so ta ti va vi"
NAMES, HELDOUT_NAMES, SYLLABLES = _NAMES.split(), _HELDOUT_NAMES.split(), _SYLLABLES.split()


def is_heldout(kind: str, *numbers: int) -> bool:
    """Whether these numbers never occur in a training example of this kind (about one in twelve)."""
    digest = hashlib.sha256(f"{kind} {numbers}".encode()).digest()
    return digest[0] < 21


def _row(**slots: object) -> Row:
    return {key: str(value) for key, value in slots.items()}


def _add(rng: Random) -> tuple[Row, bool]:
    a, b = rng.randint(0, 50), rng.randint(0, 50)
    if rng.random() < 0.25:
        a, b = rng.randint(0, 12), rng.randint(0, 12)
    d = rng.randint(1, 9)
    return _row(a=a, b=b, c=a + b, d=d, e=a + b + d), is_heldout("add", a, b)


def _sub(rng: Random) -> tuple[Row, bool]:
    top = 12 if rng.random() < 0.25 else 50
    b, a = sorted((rng.randint(0, top), rng.randint(0, top)))
    return _row(a=a, b=b, c=a - b), is_heldout("sub", a, b)


def _mul(rng: Random) -> tuple[Row, bool]:
    """The tables up to 10 × 10. A product is held out in one order only."""
    a, b = rng.randint(0, 10), rng.randint(0, 10)
    return _row(a=a, b=b, c=a * b), a < b and is_heldout("mul", a, b)


def _pair(rng: Random) -> tuple[Row, bool]:
    a, b = rng.sample(range(101), 2)
    return _row(a=a, b=b, low=min(a, b), high=max(a, b)), is_heldout("pair", a, b)


def _next(rng: Random) -> tuple[Row, bool]:
    a = rng.randint(0, 99)
    return _row(a=a, b=a + 1), is_heldout("next", a)


def _parity(rng: Random) -> tuple[Row, bool]:
    a = rng.randint(0, 100)
    return _row(a=a, parity=("even", "odd")[a % 2]), is_heldout("parity", a)


def _apples(rng: Random) -> tuple[Row, bool]:
    a, b = rng.randint(2, 20), rng.randint(1, 10)
    return _row(a=a, b=b, c=a + b), is_heldout("add", a, b)


def _eaten(rng: Random) -> tuple[Row, bool]:
    a = rng.randint(3, 20)
    b = rng.randint(1, min(a - 1, 10))
    return _row(a=a, b=b, c=a - b), is_heldout("sub", a, b)


def _names(rng: Random) -> tuple[Row, bool]:
    """A first name, or half of the time an invented one, so that any name can be repeated."""
    if rng.random() < 0.5:
        parts = rng.choices(SYLLABLES, k=3)
        name = "".join(parts[: rng.randint(2, 3)]) + rng.choice(["", "", "n", "s", "l", "r"])
        return {"name": name.capitalize()}, False
    name = rng.choice(NAMES + HELDOUT_NAMES)
    return {"name": name}, name in HELDOUT_NAMES


_GENERATORS: dict[str, Callable[[Random], tuple[Row, bool]]] = {
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "pair": _pair,
    "next": _next,
    "parity": _parity,
    "apples": _apples,
    "eaten": _eaten,
    "names": _names,
}


def generate_row(kind: str, rng: Random, heldout: bool) -> Row:
    """One row of the named kind, from the training part or from the held-out part."""
    generator = _GENERATORS[kind]
    while True:
        row, is_out = generator(rng)
        if is_out == heldout:
            return row

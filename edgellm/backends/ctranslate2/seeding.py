"""Seeds for single requests, which CTranslate2 itself does not offer.

CTranslate2 samples with one `std::mt19937` per worker thread, seeded when the thread first samples; its
public `set_random_seed` sets that first seed only. Here the generator of the thread that runs a request is
rewritten just before the request's first sampled token. `ctranslate2::get_random_generator()` is exported
by the library and returns the generator of the calling thread. Callbacks run on the worker thread, so one
that is called one step early, for the last token of the prompt, is the place to do it (see `executor.py`).

The state of an `std::mt19937` is 624 words and an index. Words are 64 bits wide in libstdc++ (its
`uint_fast32_t`) and 32 bits in libc++. Nothing is assumed: `find_generator` looks at the generator of a
fresh thread, which must hold exactly the sequence that seeding produces. Elsewhere (Windows, a future
version) it reports None and seeds are refused rather than ignored.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SYMBOL = "_ZN11ctranslate220get_random_generatorEv"
_WORDS = 624
_MULTIPLIER = 1812433253  # of the seeding recurrence, C++ standard [rand.eng.mers]


@dataclass(frozen=True)
class WorkerGenerator:
    """The random generator of whichever worker thread calls `seed`."""

    address: Callable[[], int]
    word_bytes: int
    start: int
    """Index of a freshly seeded generator: 624 (libstdc++) or 0 (libc++)."""

    def seed(self, seed: int | None) -> None:
        """Rewrite the calling thread's generator. None: from the operating system's entropy."""
        words = np.random.SeedSequence(seed).generate_state(_WORDS, np.uint32)
        words[0] |= 1 << 31  # the generator's one forbidden state is all zeros
        wide = words.astype(np.uint64 if self.word_bytes == 8 else np.uint32)
        state = wide.tobytes() + np.uint64(self.start).tobytes()
        ctypes.memmove(self.address(), state, len(state))


def find_generator(library: str) -> WorkerGenerator | None:
    """The generator of the loaded `library` (ctranslate2's extension); None if it is not as expected."""
    try:
        address = getattr(ctypes.CDLL(library), _SYMBOL)
    except (OSError, AttributeError):
        return None
    address.restype = ctypes.c_void_p
    address.argtypes = []
    found: list[WorkerGenerator | None] = []
    # In a thread of its own the generator is certain to be freshly seeded.
    thread = threading.Thread(target=lambda: found.append(_inspect(address)))
    thread.start()
    thread.join()
    return found[0] if found else None


def _inspect(address: Callable[[], int]) -> WorkerGenerator | None:
    where = address()
    for word_bytes, dtype in ((8, np.uint64), (4, np.uint32)):
        # Reading 64-bit words of a generator of 32-bit ones would pass its end, so the start is tried first.
        if not _is_seeded(_read(where, 4, word_bytes, dtype)):
            continue
        words = _read(where, _WORDS, word_bytes, dtype)
        index = int(_read(where + _WORDS * word_bytes, 1, 8, np.uint64)[0])
        if _is_seeded(words) and index in (0, _WORDS):
            return WorkerGenerator(address, word_bytes, index)
    return None


def _read(where: int, count: int, width: int, dtype: type[np.unsignedinteger]) -> NDArray[np.uint64]:
    return np.frombuffer(ctypes.string_at(where, count * width), dtype=dtype).astype(np.uint64)


def _is_seeded(words: NDArray[np.uint64]) -> bool:
    """Whether each word follows from the one before as seeding prescribes."""
    before = words[:-1]
    expected = np.uint64(_MULTIPLIER) * (before ^ (before >> np.uint64(30))) + np.arange(
        1, len(words), dtype=np.uint64
    )
    return bool(
        (words[1:] == np.bitwise_and(expected, np.uint64(0xFFFFFFFF))).all() and words[0] <= 0xFFFFFFFF
    )

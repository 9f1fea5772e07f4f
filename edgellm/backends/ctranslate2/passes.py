"""How the prompts of a cohort are fed to CTranslate2, and which of its callbacks are new tokens.

CTranslate2 takes prompt tokens in two ways: some of them in one pass ("at once"), the others one a step, as
tokens that the decoding loop is forced to choose. `generate_batch` offers two forms, both used here:

- Without the prompt in the result: the shortest prompt of the batch but its last token goes in at once, what
  longer prompts have beyond that is forced. The quickest form, for ordinary cohorts.
- With it: only a `static_prompt` shared by all rows goes in at once, all other tokens are forced, and the
  callback also runs for forced tokens, on the worker's thread, one step before the next token is chosen.
  For seeds, and for the repetition penalty, which counts the tokens that went through the loop.

A layer with a sliding window attends correctly to at most a window of tokens at once (within one pass it
masks only the future), and correctly token by token. So where windows are in use no more than a window goes
in at once: longer prompts are exact, and slower to read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Feed:
    """Arguments of one `generate_batch`, in token ids.

    Attributes:
        rows: start tokens of each row. A row beyond `real` is there only to keep the shared pass short; it
            ends at its first token.
        static: the static prompt.
        with_prompt: whether the prompt is part of the result.
        forced: steps of each row whose token is given, not chosen.
        counts_forced: whether CTranslate2 counts forced steps into its length limits.
    """

    rows: tuple[tuple[int, ...], ...]
    static: tuple[int, ...]
    with_prompt: bool
    real: int
    forced: tuple[int, ...]
    counts_forced: bool


def at_once(prompts: Sequence[Sequence[int]], window: int) -> Feed:
    """As many tokens at once as all rows share. `window`: tokens of the sliding window, 0 without one."""
    rows = [tuple(prompt) for prompt in prompts]
    if window and min(len(row) for row in rows) > window + 1:
        if len(rows) == 1:
            return _with_static(rows[0], window)
        rows.append(rows[0][: window + 1])
    shared = min(len(row) for row in rows) - 1
    forced = tuple(len(row) - 1 - shared for row in rows)
    # With nothing shared CTranslate2 treats the prompt as part of the result whatever it is told.
    return Feed(tuple(rows), (), False, len(prompts), forced, counts_forced=shared == 0)


def one_forced(prompt: Sequence[int], window: int) -> Feed:
    """A prompt of at least two tokens, the last of them forced, so that the callback runs one step early."""
    head = len(prompt) - 2
    return _with_static(tuple(prompt), min(head, window) if window else head)


def all_forced(prompts: Sequence[Sequence[int]]) -> Feed:
    """Every token but the first goes through the decoding loop: slow, and all of them are penalised."""
    rows = tuple(tuple(prompt) for prompt in prompts)
    return Feed(rows, (), True, len(rows), tuple(len(row) - 1 for row in rows), counts_forced=True)


def _with_static(prompt: tuple[int, ...], head: int) -> Feed:
    row = prompt[head:]
    return Feed((row,), prompt[:head], True, 1, (len(row) - 1,), counts_forced=True)

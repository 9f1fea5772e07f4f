"""`evaluate`: score a text with a bundle, and compare it with a reference on the way."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

from edgellm.backends.cpu import compute_threads
from edgellm.backends.executor import Float32s
from edgellm.bundle import Bundle
from edgellm.errors import UsageError
from edgellm.evaluation.documents import Document, encode, read_texts
from edgellm.evaluation.model import ScoredModel
from edgellm.evaluation.reference import Progress, open_reference
from edgellm.evaluation.report import Report, summarize
from edgellm.evaluation.scores import Scores, join, score
from edgellm.evaluation.windows import Window, smallest, windows

DEFAULT_WINDOW = 512
_GROUP_VALUES = 1 << 25
"""Logits of each model that are kept at a time, if a window has no more: a model that has just run holds on
to its threads for a while and slows the next one down, so they take turns seldom.
"""


def evaluate(
    bundle: str | os.PathLike[str] | Bundle,
    text: str | os.PathLike[str],
    *,
    against: str | os.PathLike[str] | None = None,
    window: int | None = None,
    max_tokens: int | None = None,
    threads: int | None = None,
    kv: str | None = None,
    offline: bool = False,
    on_progress: Progress | None = None,
) -> Report:
    """Score the documents of the file `text` with `bundle`.

    Args:
        against: the reference: a bundle's directory, a checkpoint's, a Hugging Face id, or "demo". A
            checkpoint is built as fp32 into a temporary directory.
        window: tokens of a forward pass at most; None = 512, or what the models can do if that is less.
        max_tokens: stop after so many scored tokens. threads: of a forward pass; None = one a core.
        kv: what the key/value cache of `bundle` holds; None: its default.
        offline: never use the network.
        on_progress: (stage, done, in all) with the stages of `edgellm.build`, and "score", in tokens of each
            model.

    Raises:
        UsageError: the text, the window or the reference is not as it must be. EdgeLLMError: see `Engine`.
    """
    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    progress = on_progress or (lambda stage, done, total: None)
    documents = encode(opened, read_texts(Path(text)), max_tokens)
    size = DEFAULT_WINDOW if window is None else window
    with ExitStack() as stack:
        model = stack.enter_context(ScoredModel(opened, window=size, threads=threads, kv=kv))
        _check_window(opened, model, window)
        models, name = [model], None
        if against is not None:
            reference, name = stack.enter_context(
                open_reference(os.fspath(against), opened, offline=offline, on_progress=progress)
            )
            models.append(stack.enter_context(ScoredModel(reference, window=size, threads=threads)))
            _check_window(reference, models[1], window)
        size = min(size, *(one.max_tokens for one in models))
        if size < (least := max(map(smallest, documents))):
            raise UsageError(f"a window of {size} tokens is too small; at least {least} are needed")
        started = time.perf_counter()
        scores = _run(models, documents, size, threads or compute_threads(), progress)
        seconds = time.perf_counter() - started
    return summarize(
        scores,
        documents=len(documents),
        size=sum(document.bytes for document in documents),
        window=size,
        seconds=seconds,
        reference=name,
    )


def _check_window(bundle: Bundle, model: ScoredModel, window: int | None) -> None:
    """What was asked for must be possible; a default gives way."""
    if window is None or window <= model.max_tokens:
        return
    why = f"the context of {bundle.path} is {bundle.manifest.context} tokens"
    if window <= bundle.manifest.context:
        why = (
            f"the {bundle.manifest.backend} backend gives right logits for at most {model.max_tokens} "
            f"tokens, the sliding window of {bundle.path}"
        )
    raise UsageError(f"--window is {window}, but {why}; give at most {model.max_tokens}")


def _run(
    models: list[ScoredModel], documents: list[Document], size: int, threads: int, progress: Progress
) -> Scores:
    total = len(models) * sum(document.scored for document in documents)
    done = 0

    def advance(window: Window) -> None:
        nonlocal done
        done += len(window.targets)
        progress("score", done, total)

    every = (window for document in documents for window in windows(document, size))
    groups = _groups(every, _GROUP_VALUES // models[0].vocab_size)
    return join([_score(models, group, threads, advance) for group in groups])


def _score(
    models: list[ScoredModel], group: list[Window], threads: int, advance: Callable[[Window], None]
) -> Scores:
    """A function of its own, so that these logits are gone when the next ones are computed."""
    logits: list[list[Float32s]] = [[] for _ in models]
    for model, found in zip(models, logits, strict=True):
        for window in group:
            found.append(model.logits(window.token_ids, window.first))
            advance(window)
    return join(
        [
            score(both[0], window.targets, *both[1:], threads=threads)
            for window, *both in zip(group, *logits, strict=True)
        ]
    )


def _groups(every: Iterable[Window], rows: int) -> Iterator[list[Window]]:
    """Windows that score `rows` tokens together, or more where a single one does."""
    group, size = list[Window](), 0
    for window in every:
        if group and size + len(window.targets) > rows:
            yield group
            group, size = [], 0
        group.append(window)
        size += len(window.targets)
    if group:
        yield group

"""What a bundle is compared with: another bundle, or an fp32 bundle built for the occasion."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edgellm.builder import build
from edgellm.bundle import Bundle
from edgellm.bundle.manifest import MANIFEST_NAME, TOKENIZER_NAME
from edgellm.checkpoint import Checkpoint, resolve_model
from edgellm.errors import UsageError

Progress = Callable[[str, int, int], None]


@contextmanager
def open_reference(
    against: str, bundle: Bundle, *, offline: bool, on_progress: Progress
) -> Iterator[tuple[Bundle, str]]:
    """The reference and its name; an fp32 bundle that had to be built goes away again.

    Args:
        against: a bundle's directory, a checkpoint's, a Hugging Face id, or "demo".
        bundle: what is evaluated. The reference is built for its context, on which some models' position
            embeddings depend.

    Raises:
        UsageError: the reference has another tokenizer or vocabulary. Others as `edgellm.build` raises.
    """
    path = Path(against).expanduser()
    if (path / MANIFEST_NAME).is_file():
        reference = Bundle.open(path)
        _check(bundle, against, _tokenizer_hash(reference), reference.manifest.model.vocab_size)
        yield reference, f"{reference.path.name} ({reference.manifest.quant})"
        return
    resolved = resolve_model(
        against, offline=offline, progress=lambda done, total: on_progress("download", done, total)
    )
    with Checkpoint.open(resolved.path, name=resolved.name, revision=resolved.revision) as checkpoint:
        hashed = hashlib.sha256(checkpoint.tokenizer_file.read_bytes()).hexdigest()
        _check(bundle, against, hashed, checkpoint.config.vocab_size)
    with tempfile.TemporaryDirectory(prefix="edgellm-eval-") as folder:
        built = build(
            resolved.path,
            quant="fp32",
            context=bundle.manifest.context,
            out=Path(folder) / "reference",
            on_progress=on_progress,
        )
        yield Bundle.open(built), f"{resolved.name} (fp32, {built.backend})"


def _tokenizer_hash(bundle: Bundle) -> str:
    bundle.file(TOKENIZER_NAME)
    return next(entry.sha256 for entry in bundle.manifest.files if entry.path == TOKENIZER_NAME)


def _check(bundle: Bundle, against: str, tokenizer_hash: str, vocab_size: int) -> None:
    """Distributions can be compared only if they are over the same tokens."""
    if _tokenizer_hash(bundle) != tokenizer_hash:
        raise UsageError(
            f"{against} has another tokenizer.json than {bundle.path}; compare with the checkpoint that the "
            "bundle was built from"
        )
    if bundle.manifest.model.vocab_size != vocab_size:
        raise UsageError(
            f"{against} has {vocab_size} tokens in its vocabulary and {bundle.path} "
            f"{bundle.manifest.model.vocab_size}; compare with the checkpoint that the bundle was built from"
        )

"""From what a user calls a model to a directory: a path, the shipped demo, or a Hugging Face id."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgellm.checkpoint.jsonfile import read_json
from edgellm.checkpoint.tensors import INDEX, SINGLE
from edgellm.errors import CheckpointError, UsageError
from edgellm.resources import data_dir

Progress = Callable[[int, int], None]
"""(bytes done, bytes in all)."""

# What a build reads. Never pickles (.bin, .pt) and never code (.py).
ALLOWED = ["*.json", "*.safetensors", "*.jinja", "README.md", "LICENSE*", "NOTICE*"]
IGNORED = ["*/*", "*.py", "*.bin", "*.pt", "*.pth", "*.gguf", "*.onnx", "consolidated*.safetensors"]
_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_REVISION = re.compile(r"[\w.][\w./-]{0,127}", re.ASCII)


@dataclass(frozen=True)
class ResolvedModel:
    """A checkpoint's directory, its name (Hugging Face id or directory name), and commit if it has one."""

    path: Path
    name: str
    revision: str | None = None


def resolve_model(
    model: str | os.PathLike[str],
    *,
    revision: str | None = None,
    offline: bool = False,
    progress: Progress | None = None,
) -> ResolvedModel:
    """Find `model`, downloading it if need be.

    Args:
        model: a directory; `demo` or `models/demo` for the shipped model; or a Hugging Face id, `org/name`.
        revision: branch, tag or commit of a Hugging Face id.
        offline: never use the network. Without it, a complete copy in the cache is still used first; ask for
            another `revision` to get another state of the model.
        progress: called while bytes arrive; None = the hub's own progress bar (on terminals only).

    Raises:
        CheckpointError: there is no such model, access is refused, or the network fails.
        UsageError: `model` or `revision` is malformed.
    """
    text = os.fspath(model)
    if not text.strip():
        raise UsageError("the model's name is empty; give a directory or a Hugging Face id (org/name)")
    path = Path(text).expanduser()
    if text in ("demo", "models/demo") and not (path / "config.json").is_file():
        path = data_dir("models") / "demo"
    if path.is_dir():
        if revision is not None:
            raise UsageError(f"--revision {revision} needs a Hugging Face id; {text} is a directory")
        return ResolvedModel(path, path.resolve().name)
    if path.exists():
        raise UsageError(f"{text} is a file; give the checkpoint's directory or a Hugging Face id (org/name)")
    if not _ID.fullmatch(text) or ".." in text or "--" in text:
        raise UsageError(
            f"{text} is neither a directory nor a Hugging Face id such as Qwen/Qwen2.5-0.5B-Instruct"
        )
    if revision is not None and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise UsageError(f"--revision {revision!r} is not a branch, tag or commit")
    snapshot = _cached(text, revision) or _download(text, revision, offline, progress)
    return ResolvedModel(snapshot, text, snapshot.name)


def _cached(model: str, revision: str | None) -> Path | None:
    """The snapshot in the cache, if it is complete."""
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(
            model, revision=revision, local_files_only=True, allow_patterns=ALLOWED, ignore_patterns=IGNORED
        )
    except Exception:  # whatever is wrong with the cache, a download or its own error will tell
        return None
    return Path(found) if _complete(Path(found)) else None


def _complete(snapshot: Path) -> bool:
    """Whether the files that a build needs are there: a download may have been cut."""
    if not (snapshot / "config.json").is_file() or not (snapshot / "tokenizer.json").is_file():
        return False
    if not (snapshot / INDEX).is_file():
        return (snapshot / SINGLE).is_file()
    try:
        shards = set(read_json(snapshot / INDEX)["weight_map"].values())
        return all((snapshot / shard).is_file() for shard in shards)
    except (CheckpointError, KeyError, AttributeError, TypeError):
        return False


def _download(model: str, revision: str | None, offline: bool, progress: Progress | None) -> Path:
    from huggingface_hub import constants, errors, snapshot_download

    at = f" at revision {revision}" if revision else ""
    if offline or constants.HF_HUB_OFFLINE:
        raise CheckpointError(
            f"{model}{at} is not (completely) in the cache, and offline means no download; "
            "run once without --offline, or give a directory"
        )
    try:
        found = snapshot_download(
            model,
            revision=revision,
            allow_patterns=ALLOWED,
            ignore_patterns=IGNORED,
            tqdm_class=None if progress is None else _progress_class(progress),
        )
    except errors.GatedRepoError:
        raise CheckpointError(
            f"{model} is gated: accept its terms on its page at {constants.ENDPOINT}/{model}, "
            "then log in with `hf auth login` or set HF_TOKEN"
        ) from None
    except errors.RepositoryNotFoundError:
        raise CheckpointError(
            f"{model} does not exist on {constants.ENDPOINT}, or is private; check the spelling, "
            "or log in with `hf auth login` or HF_TOKEN"
        ) from None
    except errors.RevisionNotFoundError:
        raise CheckpointError(
            f"{model} has no revision {revision}; check its page for branches and tags"
        ) from None
    except errors.LocalEntryNotFoundError as error:
        raise _unreachable(model, constants.ENDPOINT, error.__cause__ or error) from None
    except Exception as error:  # the HTTP library differs between versions of huggingface_hub
        raise _unreachable(model, constants.ENDPOINT, error) from None
    return Path(found)


def _unreachable(model: str, endpoint: str, error: BaseException) -> CheckpointError:
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    return CheckpointError(
        f"{model} cannot be downloaded from {endpoint} ({reason}); "
        "try again (it resumes where it stopped), or give a directory"
    )


def _progress_class(progress: Progress) -> Any:
    """A progress bar for huggingface_hub that shows nothing and reports bytes."""
    from tqdm.std import tqdm  # type: ignore[import-untyped]

    class Reporter(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._reports = kwargs.get("unit") == "B" and not str(kwargs.get("desc")).startswith(
                "Downloading"
            )
            super().__init__(*args, **{**kwargs, "file": _Nowhere(), "disable": False, "leave": False})

        def update(self, n: float | None = 1) -> bool | None:
            result: bool | None = super().update(n)
            if self._reports:
                progress(int(self.n), int(self.total or 0))
            return result

    return Reporter


class _Nowhere:
    """A file that swallows what is written."""

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        """Nothing to do."""

"""The weights of a checkpoint in the peers' own formats, made once for each content of a checkpoint."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from edgellm.backends import BuildPlan, get_backend
from edgellm.checkpoint import Checkpoint, resolve_model
from edgellm.errors import MissingDependencyError, UnsupportedError

_FILES = ("config.json", "tokenizer.json", "*.safetensors")
_PACKAGE = Path(__file__).resolve().parents[1]
_GGUF_CODE = ("bench/gguf_file.py",)
_CTRANSLATE2_CODE = ("backends/ctranslate2", "quantize")
"""What converts, in this package: other code, other files."""


class Conversions:
    """Converts into `directory`, or takes what is there from the same checkpoint.

    Args:
        model: a directory or whatever else `edgellm build` takes. notify: told what takes a while.
    """

    def __init__(
        self, model: str, directory: Path, notify: Callable[[str], None] = lambda text: None
    ) -> None:
        self._checkpoint = resolve_model(model).path
        self._directory = directory
        self._notify = notify
        self._content = b""

    def gguf(self, quant: str) -> Path:
        """A GGUF file for llama.cpp with all matrices in `quant` ("q4_0", "q8_0", "f16", "f32").

        Raises:
            EdgeLLMError: see `write_gguf`.
        """
        from edgellm.bench.gguf_file import write_gguf

        out = self._place(f"{quant}.gguf", _GGUF_CODE)
        if not out.exists():
            self._notify(f"converting the checkpoint for llama.cpp ({quant}); this may take minutes")
            with Checkpoint.open(self._checkpoint) as checkpoint:
                write_gguf(checkpoint, out, quant)
        return out

    def ctranslate2(self, quant: str) -> Path:
        """A model directory of CTranslate2 in `quant` ("int8" or "fp32").

        Raises:
            UnsupportedError: CTranslate2 cannot express the model.
            MissingDependencyError: it is not installed.
        """
        out = self._place(f"ctranslate2-{quant}", _CTRANSLATE2_CODE)
        if out.exists():
            return out
        backend = get_backend("ctranslate2")
        if missing := backend.missing():
            raise MissingDependencyError(missing)
        with Checkpoint.open(self._checkpoint) as checkpoint:
            plan = BuildPlan("native", quant, checkpoint.config.context_length)
            if reason := backend.refuse(checkpoint.config, plan):
                raise UnsupportedError(reason)
            self._notify(f"converting the checkpoint for CTranslate2 ({quant})")
            beside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
            try:
                backend.build(checkpoint, plan, beside, lambda stage, done, total: None)
                beside.rename(out)
            finally:
                shutil.rmtree(beside, ignore_errors=True)
        return out

    def _place(self, name: str, code: tuple[str, ...]) -> Path:
        """Where a conversion lies: under the hash of the checkpoint and of the code that converts."""
        if not self._content:
            self._content = _hash([file for pattern in _FILES for file in self._checkpoint.glob(pattern)])
        sources: list[Path] = []
        for part in code:
            path = _PACKAGE / part
            sources += path.rglob("*.py") if path.is_dir() else [path]
        key = hashlib.sha256(self._content + _hash(sources)).hexdigest()[:16]
        self._directory.mkdir(parents=True, exist_ok=True)
        return self._directory / f"{key}-{name}"


def _hash(files: list[Path]) -> bytes:
    """SHA-256 of the files' names and contents."""
    digest = hashlib.sha256()
    for path in sorted(files):
        with path.open("rb") as file:
            digest.update(f"{path.name}\n".encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.digest()

"""`Bundle`: a built model on disk, opened for reading."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from edgellm.bundle.codec import read_manifest
from edgellm.bundle.manifest import TOKENIZER_NAME, Manifest
from edgellm.bundle.verify import Problem, check_file, verify
from edgellm.errors import BundleError

if TYPE_CHECKING:
    from edgellm.text.template import ChatTemplate
    from edgellm.text.tokenizer import Tokenizer

_MAX_TEMPLATE_BYTES = 1 << 20
_HASHED_AT_OPEN = 64 << 20
"""Files up to this size are hashed each time: larger than any tokenizer, smaller than most weights."""


class Bundle:
    """A bundle directory whose manifest has been read and whose files are there with the right sizes.

    Attributes:
        path: the directory, absolute.
        manifest: what `edgellm.json` says.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self._listed = {entry.path: entry for entry in manifest.files}

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"Bundle({str(self.path)!r})"

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, check_hashes: bool = False) -> Bundle:
        """Open the bundle at `path`. Reads the manifest, looks at each file's size, and hashes the small
        files (tokenizer, template, settings), so it is quick and a damaged one is named.

        Args:
            check_hashes: also hash the weights and look for unlisted files, as `edgellm verify` does (about
                a second a gigabyte).

        Raises:
            BundleError: no bundle is there, its format is newer, or it is damaged; names the file.
        """
        directory = Path(path).resolve()
        bundle = cls(directory, read_manifest(directory))
        for entry in bundle.manifest.files:
            if problem := check_file(directory, entry, hash_up_to=_HASHED_AT_OPEN):
                raise _damaged(directory, problem)
        if check_hashes and (problems := verify(directory)):
            raise _damaged(directory, problems[0])
        return bundle

    @property
    def total_bytes(self) -> int:
        """Bytes of all files listed in the manifest."""
        return sum(entry.bytes for entry in self.manifest.files)

    def file(self, relative: str) -> Path:
        """Where the listed file `relative` is. BundleError if the manifest does not list it."""
        if relative not in self._listed:
            raise BundleError(f"bundle {self.path} has no file {relative}; build it again")
        return self.path / relative

    def tokenizer(self) -> Tokenizer:
        """The bundle's tokenizer, loaded."""
        from edgellm.text.tokenizer import Tokenizer

        return Tokenizer.from_file(self.file(TOKENIZER_NAME), self.manifest.tokenizer)

    def chat_template(self) -> ChatTemplate | None:
        """The bundle's chat template; None for a base model without one."""
        from edgellm.text.template import ChatTemplate

        if self.manifest.chat_template is None:
            return None
        file = self.file(self.manifest.chat_template)
        if self._listed[self.manifest.chat_template].bytes > _MAX_TEMPLATE_BYTES:
            raise BundleError(f"{file} is larger than {_MAX_TEMPLATE_BYTES >> 20} MiB: no chat template is")
        try:
            source = file.read_bytes().decode()
        except (OSError, UnicodeDecodeError) as error:
            raise BundleError(f"{file} cannot be read as text ({error}); build the bundle again") from None
        facts = self.manifest.tokenizer
        return ChatTemplate(
            source, bos_token=facts.bos_token, eos_token=facts.eos_token, unk_token=facts.unk_token
        )


def _damaged(directory: Path, problem: Problem) -> BundleError:
    return BundleError(f"bundle {directory} is damaged: {problem.file} {problem.problem}; build it again")

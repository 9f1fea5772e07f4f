"""`Tokenizer`: a `tokenizer.json` together with what the engine must know about it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import tokenizers

from edgellm.errors import EdgeLLMError

if TYPE_CHECKING:
    from edgellm.bundle.manifest import TokenizerFacts

MAX_TOKENIZER_BYTES = 64 << 20


class TokenizerError(EdgeLLMError):
    """A tokenizer.json is missing, damaged or larger than allowed."""


def load_tokenizer(path: Path) -> tokenizers.Tokenizer:
    """The `tokenizers` library's own object, without truncation and padding; raises TokenizerError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TOKENIZER_BYTES + 1)
    except OSError as error:
        raise TokenizerError(f"{path} cannot be read: {error.strerror or error}") from None
    if len(data) > MAX_TOKENIZER_BYTES:
        raise TokenizerError(f"{path} is larger than the limit of {MAX_TOKENIZER_BYTES:,} bytes")
    try:
        tokenizer = tokenizers.Tokenizer.from_buffer(data)
    except Exception as error:  # the library raises bare Exception
        raise TokenizerError(f"{path} is not a tokenizer that can be read: {error}") from None
    # A file may carry the settings of some training run; like transformers, ignore them.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


class Tokenizer:
    """Text to token ids and back, as the checkpoint's own tokenizer does. Threads may share one."""

    def __init__(self, backend: tokenizers.Tokenizer, facts: TokenizerFacts) -> None:
        self._backend = backend
        self.facts = facts
        self._added = frozenset(backend.get_added_tokens_decoder())
        self._bytes = _BYTE_LEVEL if _is_byte_level(backend) else None

    @classmethod
    def from_file(cls, path: Path, facts: TokenizerFacts) -> Tokenizer:
        """Read `path`, at most MAX_TOKENIZER_BYTES; raises TokenizerError."""
        return cls(load_tokenizer(path), facts)

    @property
    def vocab_size(self) -> int:
        """Highest token id plus one."""
        return self.facts.size

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Token ids of `text`. Special tokens written out in the text become single ids.

        Args:
            add_special_tokens: put the checkpoint's own prefix and suffix around the text (usually the bos
                token). False for text from a chat template, which contains them already.
        """
        try:
            ids: list[int] = self._backend.encode(text, add_special_tokens=False).ids
        except Exception as error:
            raise TokenizerError(f"the text cannot be tokenized: {error}") from None
        return [*self.facts.prefix_ids, *ids, *self.facts.suffix_ids] if add_special_tokens else ids

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """Text of `ids`; ids without a token are left out. Incomplete UTF-8 becomes U+FFFD."""
        text: str = self._backend.decode(list(ids), skip_special_tokens=skip_special_tokens)
        return text

    def token(self, id: int) -> str:
        """The token as its vocabulary spells it; empty if no token has this id."""
        return self._backend.id_to_token(id) or ""

    def token_bytes(self, id: int) -> bytes:
        """What the token adds to a text, in bytes: not always whole UTF-8 characters."""
        token = self.token(id)
        if id in self._added:
            return token.encode()
        if self._bytes is not None:
            return (
                bytes(self._bytes[c] for c in token)
                if all(c in self._bytes for c in token)
                else token.encode()
            )
        if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            return bytes([int(token[3:5], 16)])
        return token.replace("▁", " ").encode()


def _is_byte_level(backend: tokenizers.Tokenizer) -> bool:
    return "ByteLevel" in repr(backend.decoder)


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-ins for bytes: printable Latin-1 stands for itself, the rest from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(0x100 + i): b for i, b in enumerate(hidden)}


_BYTE_LEVEL = _byte_alphabet()

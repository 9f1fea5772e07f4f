"""Text in and out of models: tokenizer and chat template."""

from __future__ import annotations

from edgellm.text.template import ChatTemplate
from edgellm.text.tokenizer import Tokenizer

__all__ = ["ChatTemplate", "Tokenizer"]

"""The backend tests need CTranslate2."""

from __future__ import annotations

import pytest

from tests.support import require


@pytest.fixture(autouse=True)
def _needs_ctranslate2() -> None:
    require(module="ctranslate2", reason="it runs the models: pip install 'edgellm[ctranslate2]'")

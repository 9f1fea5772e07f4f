"""The tests of this folder need CTranslate2; those in folders below say themselves what they need."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import require


@pytest.fixture(autouse=True)
def _needs_ctranslate2(request: pytest.FixtureRequest) -> None:
    if request.path.parent != Path(__file__).parent:
        return
    require(module="ctranslate2", reason="it runs the models: pip install 'edgellm[ctranslate2]'")

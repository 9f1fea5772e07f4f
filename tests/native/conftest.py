"""The programs of native/, built once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.native.programs import build_all


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """For this machine, by name."""
    return build_all(tmp_path_factory.mktemp("native"))

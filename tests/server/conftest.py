"""One plain server over the demo model for all tests here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import OpenAI

from tests.server.serving import Process, serve


@pytest.fixture(scope="session")
def server(demo_bundle: Path) -> Iterator[Process]:
    with serve(demo_bundle) as running:
        yield running


@pytest.fixture(scope="session")
def client(server: Process) -> OpenAI:
    return server.client()

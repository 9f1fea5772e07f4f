"""One bundle of the demo model and one plain server over it for all tests here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import OpenAI

import edgellm
from tests.server.serving import Process, serve


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return edgellm.build("demo", out=tmp_path_factory.mktemp("bundles") / "demo").path


@pytest.fixture(scope="session")
def server(bundle: Path) -> Iterator[Process]:
    with serve(bundle) as running:
        yield running


@pytest.fixture(scope="session")
def client(server: Process) -> OpenAI:
    return server.client()

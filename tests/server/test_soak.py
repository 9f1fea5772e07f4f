"""The load test, short. `python tests/server/soak.py` runs the long one."""

from __future__ import annotations

from pathlib import Path

from tests.server.serving import serve, serve_here
from tests.server.soak import soak


def test_many_clients_lose_nothing(demo_bundle: Path) -> None:
    with serve(demo_bundle) as running:
        found = soak(running, clients=64, seconds=8)
    assert found["problems"] == []
    assert found["running"] == found["waiting"] == 0
    assert found["completed"] > 50 and found["left"] > 5


def test_many_clients_lose_nothing_in_step_mode(demo_bundle: Path) -> None:
    with serve_here(demo_bundle, max_batch=8) as (api, _):
        found = soak(api, clients=24, seconds=6)
    assert found["problems"] == []
    assert found["running"] == found["waiting"] == 0
    assert found["completed"] > 10 and found["left"] > 0

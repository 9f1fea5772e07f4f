"""What the server refuses, and in which words: sizes, times, keys, names, methods, malformed bodies."""

from __future__ import annotations

import json
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

import edgellm
from edgellm.resources import data_dir
from tests.server.serving import Api, Process, serve, serve_here

CHAT = "/v1/chat/completions"
BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
KEY = "correct-horse"


@pytest.fixture(scope="module")
def strict(demo_bundle: Path) -> Iterator[Process]:
    """A server with a key, small limits and one web origin."""
    options = ("--max-body", "20000", "--body-timeout", "1", "--cors-origin", "https://app.example")
    with serve(demo_bundle, *options, EDGELLM_API_KEY=KEY) as running:
        yield running


def raw(api: Api, data: bytes, seconds: float = 15.0) -> bytes:
    """Send bytes as they are and read until the server closes or an answer is whole."""
    with socket.create_connection(api.address, timeout=seconds) as connection:
        connection.sendall(data)
        answer = b""
        while b"\r\n\r\n" not in answer or b"}}" not in answer:
            if not (part := connection.recv(65536)):
                break
            answer += part
        return answer


def head(api: Api, *lines: str, path: str = CHAT) -> bytes:
    host, port = api.address
    usual = [f"POST {path} HTTP/1.1", f"Host: {host}:{port}", "Content-Type: application/json"]
    return "\r\n".join([*usual, f"Authorization: Bearer {KEY}", *lines, "", ""]).encode()


def test_a_key_is_asked_for_except_for_health_and_the_page(strict: Process) -> None:
    for path in ("/health", "/", "/static/chat.js"):
        assert strict.call("GET", path)[0] == 200
    for method, path in (
        ("GET", "/v1/models"),
        ("POST", CHAT),
        ("GET", "/metrics"),
        ("GET", "/openapi.json"),
    ):
        body = BODY if method == "POST" else None
        status, error = strict.error(method, path, body)
        assert status == 401 and error["code"] == "invalid_api_key"
        for wrong in ("Bearer wrong", f"Bearer {KEY}x", f"Basic {KEY}", KEY, "Bearer", "Bearer \xff"):
            assert strict.error(method, path, body, Authorization=wrong)[0] == 401
        assert strict.call(method, path, body, {"Authorization": f"Bearer {KEY}"})[0] == 200
    assert strict.call("GET", "/v1/models")[1]["www-authenticate"] == "Bearer"
    with pytest.raises(openai.AuthenticationError):
        strict.client(key="wrong").models.list()
    assert strict.client(key=KEY).models.list().data


def test_the_key_is_not_in_the_ready_line(strict: Process) -> None:
    assert KEY not in json.dumps(strict.ready)


def test_large_bodies_get_413_with_or_without_a_length(strict: Process) -> None:
    key = {"Authorization": f"Bearer {KEY}"}
    large = BODY | {"user": "x" * 30_000}
    status, error = strict.error("POST", CHAT, large, **key)
    assert status == 413 and "20,000 bytes" in error["message"]
    with pytest.raises(openai.APIStatusError) as refused:
        strict.client(key=KEY).chat.completions.create(model=strict.model, **large)
    assert refused.value.status_code == 413

    chunk = b"1000\r\n" + b" " * 0x1000 + b"\r\n"
    answer = raw(strict, head(strict, "Transfer-Encoding: chunked") + chunk * 8 + b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413") and b"body_too_large" in answer
    announced = raw(strict, head(strict, "Content-Length: 99999999999999999999", "Expect: 100-continue"))
    assert announced.startswith(b"HTTP/1.1 413")
    fitting = json.dumps(BODY | {"user": "x" * 15_000}).encode()
    assert strict.call("POST", CHAT, fitting, key)[0] == 200


def test_a_body_that_does_not_arrive_gets_408(strict: Process) -> None:
    started = time.monotonic()
    answer = raw(strict, head(strict, "Content-Length: 100") + b'{"messages"')
    assert answer.startswith(b"HTTP/1.1 408") and b"body_timeout" in answer
    assert 0.9 < time.monotonic() - started < 5


def test_a_body_must_be_called_json(server: Process) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        status, error = server.error("POST", CHAT, json.dumps(BODY).encode(), **{"Content-Type": kind})
        assert status == 415 and "application/json" in error["message"]
    kind = "application/json; charset=utf-8"
    assert server.call("POST", CHAT, BODY, {"Content-Type": kind})[0] == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"messages"',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"messages":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001,
        b'{"messages": [{"role": "user", "content": "Hi"}], "max_tokens": ' + b"9" * 5000 + b"}",
    ],
)
def test_malformed_bodies_get_400(server: Process, body: bytes) -> None:
    status, error = server.error("POST", CHAT, body)
    assert status == 400 and error["type"] == "invalid_request_error"


def test_unknown_paths_and_methods(server: Process) -> None:
    assert server.error("GET", "/v1/nothing")[0] == 404
    assert server.error("POST", "/v1/embeddings", {"input": "a"})[0] == 404
    status, error = server.error("GET", CHAT)
    assert status == 405 and "GET" in error["message"]
    assert server.error("GET", "/static/../settings.py")[0] == 404
    assert server.error("GET", "/static/%2e%2e/settings.py")[0] == 404


def test_other_host_names_are_refused(server: Process, demo_bundle: Path) -> None:
    port = server.address[1]
    for name in ("localhost", "127.0.0.1", f"LOCALHOST:{port}", f"[::1]:{port}"):
        assert server.call("GET", "/health", headers={"Host": name})[0] == 200
    for name in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "", "localhost.evil"):
        status, error = server.error("GET", "/health", Host=name)
        assert status == 403 and "--allowed-host" in error["message"]
    with serve_here(demo_bundle, allowed_hosts=("box.example",)) as (api, _):
        assert api.call("GET", "/health", headers={"Host": "box.example:80"})[0] == 200
        assert api.call("GET", "/health", headers={"Host": "evil.example"})[0] == 403


def test_only_named_origins_may_call_from_a_page(strict: Process, server: Process) -> None:
    def preflight(api: Api, origin: str) -> tuple[int, dict[str, str]]:
        asked = {
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        }
        return api.call("OPTIONS", CHAT, headers=asked)[:2]

    status, headers = preflight(strict, "https://app.example")
    assert status == 200 and headers["access-control-allow-origin"] == "https://app.example"
    for api, origin in ((strict, "https://evil.example"), (server, "https://app.example")):
        assert "access-control-allow-origin" not in preflight(api, origin)[1]
    refused = strict.call("GET", "/v1/models", headers={"Origin": "https://app.example"})
    assert refused[0] == 401 and refused[1]["access-control-allow-origin"] == "https://app.example"


def test_a_full_queue_gets_429_with_a_time_to_come_back(demo_bundle: Path) -> None:
    with serve_here(demo_bundle, pause=0.05, max_batch=1, max_queue=2) as (api, executor):
        client = api.client()
        settings: Any = {"model": api.model, "prompt": [5, 6, 7], "max_tokens": 200, "temperature": 0}
        settings["extra_body"] = {"ignore_eos": True}
        streams = [client.completions.create(stream=True, **settings)]
        next(streams[0])  # this one has the only place; two more may wait
        streams += [client.completions.create(stream=True, **settings) for _ in range(2)]
        with pytest.raises(openai.RateLimitError) as full:
            client.completions.create(**settings)
        assert int(full.value.response.headers["retry-after"]) >= 1
        assert full.value.code == "queue_full"
        with pytest.raises(openai.RateLimitError):  # all answers of a request are queued, or none
            client.completions.create(**(settings | {"n": 3}))
        assert api.health()["waiting"] == 2
        executor.pause = 0.0
        assert all(sum(bool(c.choices[0].text) for c in stream) for stream in streams)
        assert api.metrics()['edgellm_requests_total{endpoint="completions",outcome="queue_full"}'] == 2
        # With the settings as they are and room again, the same request is taken.
        assert client.completions.create(**settings).usage.completion_tokens == 200


def test_a_base_model_continues_texts_and_refuses_chats(tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(data_dir("models") / "demo", base, ignore=shutil.ignore_patterns("*.jinja", "*.py"))
    config = json.loads((base / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (base / "tokenizer_config.json").write_text(json.dumps(config))
    bundle = edgellm.build(base, out=tmp_path / "bundle").path
    with serve_here(bundle) as (api, _):
        status, error = api.error("POST", CHAT, BODY)
        assert status == 400 and "/v1/completions" in error["message"] and error["param"] == "messages"
        assert api.call("POST", "/v1/completions", {"prompt": "Hi", "max_tokens": 2})[0] == 200


def test_token_ids_outside_the_vocabulary_are_refused(server: Process) -> None:
    for prompt in ([10**9], [-1], [[5], [10**9]]):
        status, error = server.error("POST", "/v1/completions", {"prompt": prompt})
        assert status == 400 and error["param"] == "prompt"


def test_metrics_count_what_happened(server: Process) -> None:
    before = server.metrics()
    assert server.call("POST", CHAT, BODY)[0] == 200
    assert server.call("POST", CHAT, {})[0] == 400
    after = server.metrics()

    def grown(name: str) -> float:
        return after.get(name, 0) - before.get(name, 0)

    assert grown('edgellm_requests_total{endpoint="chat",outcome="completed"}') == 1
    assert grown('edgellm_requests_total{endpoint="chat",outcome="invalid"}') == 1
    assert grown("edgellm_generations_finished_total") == 1
    assert 1 <= grown("edgellm_generated_tokens_total") <= 2
    assert grown("edgellm_prompt_tokens_total") > 2
    assert grown("edgellm_time_to_first_token_seconds_count") == 1
    assert grown("edgellm_request_duration_seconds_count") == 1
    assert after["edgellm_running"] == after["edgellm_waiting"] == 0

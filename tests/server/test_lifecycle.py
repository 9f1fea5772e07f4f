"""Streams as they happen, clients that go, and servers that stop."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import openai
import pytest

from edgellm import Engine
from edgellm.bundle import Bundle
from edgellm.errors import DeviceLostError
from edgellm.server.run import Ready, bind, run
from edgellm.server.settings import ServerSettings
from tests.server.serving import Api, SlowExecutor, serve, serve_here

PAUSE = 0.05


def settings(api: Api, **more: Any) -> dict[str, Any]:
    """A request that takes 200 steps."""
    body: dict[str, Any] = {"model": api.model, "prompt": [5, 6, 7], "max_tokens": 200, "temperature": 0}
    return body | {"extra_body": {"ignore_eos": True}} | more


def post(api: Api, body: dict[str, Any]) -> socket.socket:
    """An open connection on which a request has been sent and nothing read."""
    body = {k: v for k, v in body.items() if k != "extra_body"} | body.get("extra_body", {})
    data = json.dumps(body).encode()
    connection = socket.create_connection(api.address, timeout=30)
    head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
    return connection


def test_pieces_leave_while_the_answer_is_under_way(demo_bundle: Path) -> None:
    with serve_here(demo_bundle, pause=PAUSE) as (api, _):
        started = time.monotonic()
        arrivals = []
        for chunk in api.client().completions.create(stream=True, **settings(api, max_tokens=40)):
            if chunk.choices[0].text:
                arrivals.append(time.monotonic() - started)
    whole = 40 * PAUSE
    assert arrivals[0] < whole / 4
    assert arrivals[-1] >= whole * 0.9
    assert len(arrivals) > 15  # not gathered into a few large pieces


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_frees_its_place_at_once(demo_bundle: Path, stream: bool) -> None:
    with serve_here(demo_bundle, pause=PAUSE, max_batch=2) as (api, _):
        gone = [post(api, settings(api, stream=stream)) for _ in range(5)]  # 10 s each, two at a time
        api.wait_busy(5)
        for connection in gone:
            connection.close()
        assert api.wait_idle(3) < 1
        found = api.metrics()
        assert found['edgellm_requests_total{endpoint="completions",outcome="disconnected"}'] == 5
        assert found["edgellm_generations_cancelled_total"] == 5
        assert api.client().completions.create(**settings(api, max_tokens=2)).usage.completion_tokens == 2


def test_clients_of_a_cohort_that_go_free_their_places_at_once(demo_bundle: Path) -> None:
    with serve(demo_bundle, "--workers", "1", "--max-batch", "2") as running:
        length = running.ready["context"] - 50
        body = settings(running, max_tokens=length)
        started = time.monotonic()
        running.client().completions.create(**body)
        alone = time.monotonic() - started
        gone = [post(running, settings(running, max_tokens=length, stream=i % 2 == 0)) for i in range(16)]
        running.wait_busy(16)
        for connection in gone:
            connection.close()
        # Answering them would take about eight times as long as one.
        assert running.wait_idle(10) < max(1.0, alone)
        assert running.metrics()["edgellm_generations_cancelled_total"] == 16


def test_all_answers_of_a_request_go_with_its_client(demo_bundle: Path) -> None:
    with serve_here(demo_bundle, pause=PAUSE, max_batch=8) as (api, _):
        connection = post(api, settings(api, n=6, stream=True))
        api.wait_busy(6)
        connection.close()
        assert api.wait_idle(3) < 1


def test_a_client_gone_with_half_its_request_leaves_nothing(demo_bundle: Path) -> None:
    with serve_here(demo_bundle) as (api, _):
        with socket.create_connection(api.address) as connection:
            connection.sendall(
                b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: 500\r\n\r\n{"
            )
            time.sleep(0.1)
        assert api.client().completions.create(**settings(api, max_tokens=1))
        assert api.metrics()['edgellm_requests_total{endpoint="completions",outcome="disconnected"}'] == 1


def test_a_failing_executor_is_told_in_both_ways_and_does_not_stay(demo_bundle: Path) -> None:
    with serve_here(demo_bundle) as (api, executor):
        client = api.client()
        executor.fail_next = RuntimeError("device lost")
        with pytest.raises(openai.InternalServerError, match="device lost"):
            client.completions.create(**settings(api))
        executor.fail_next = RuntimeError("device lost")
        with pytest.raises(openai.APIError, match="device lost"):
            list(client.completions.create(stream=True, **settings(api)))
        assert client.completions.create(**settings(api, max_tokens=3)).usage.completion_tokens == 3
        assert api.metrics()['edgellm_requests_total{endpoint="completions",outcome="failed"}'] == 2


def test_a_server_ends_with_its_device(demo_bundle: Path) -> None:
    vocab = Bundle.open(demo_bundle).manifest.model.vocab_size
    executor = SlowExecutor(vocab_size=vocab, context=256, max_batch=2, block_size=16, num_blocks=64)
    said: list[Exception] = []

    def ask(ready: Ready) -> None:
        executor.fail_next = DeviceLostError("the card stopped")
        api = Api(ready.url, ready.models[0])

        def one() -> None:
            try:
                api.client().completions.create(**settings(api))
            except openai.APIError as error:
                said.append(error)

        for _ in range(4):  # two run, two wait
            asking.append(threading.Thread(target=one))
            asking[-1].start()

    asking: list[threading.Thread] = []
    with Engine(demo_bundle, executor=executor) as engine:
        chosen = ServerSettings(port=0)
        with pytest.raises(DeviceLostError, match="the card stopped"):
            run(engine, chosen, bind(chosen), ask)
        for thread in asking:
            thread.join(30)
        with pytest.raises(DeviceLostError, match="the card stopped"):
            engine.generate(["More?"])
    # One that came when the server was ending already found nobody.
    assert len(said) == 4 and any("the card stopped" in str(error) for error in said)


def test_step_mode_gives_log_probabilities_and_cached_tokens(demo_bundle: Path) -> None:
    with serve_here(demo_bundle) as (api, _):
        assert api.health()["mode"] == "step"
        prompt = list(range(5, 45))
        first, again = (
            api.client().completions.create(**settings(api, prompt=prompt, max_tokens=4, logprobs=2))
            for _ in range(2)
        )
        logprobs = first.choices[0].logprobs
        assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.text_offset) == 4
        for chosen, top in zip(logprobs.token_logprobs, logprobs.top_logprobs, strict=True):
            assert max(top.values()) == chosen and len(top) <= 2
        assert first.usage.prompt_tokens_details.cached_tokens == 0
        assert again.usage.prompt_tokens_details.cached_tokens == 39  # all but the last
        assert again.choices[0].text == first.choices[0].text
        chat = api.client().chat.completions.create(
            model=api.model,
            messages=[{"role": "user", "content": "Hi"}],
            max_tokens=3,
            logprobs=True,
            top_logprobs=3,
            temperature=0,
            extra_body={"ignore_eos": True},
        )
        content = chat.choices[0].logprobs.content
        assert len(content) == 3 and all(len(entry.top_logprobs) == 3 for entry in content)
        assert all(entry.top_logprobs[0].logprob == entry.logprob for entry in content)


def test_sigterm_lets_running_answers_finish_and_takes_no_new_ones(demo_bundle: Path) -> None:
    with serve(demo_bundle, "--grace", "30") as running:
        pieces: list[str] = []
        stream = running.client().completions.create(
            stream=True, **settings(running, max_tokens=400, prompt=[5] * 8)
        )
        reader = threading.Thread(target=lambda: pieces.extend(c.choices[0].text for c in stream))
        reader.start()
        running.wait_busy(1)
        status, errors = running.end(signal.SIGTERM)
        reader.join(10)
        assert status == 0 and "Traceback" not in errors
        assert len(pieces) > 100  # to its end, not cut
        with pytest.raises(OSError):
            running.health()


def test_beyond_the_grace_time_running_answers_are_ended_and_told(demo_bundle: Path) -> None:
    with serve_here(demo_bundle, pause=PAUSE, grace_s=0.3) as (api, _):
        client = api.client()
        found: dict[str, Any] = {}

        def whole() -> None:
            try:
                client.completions.create(**settings(api))
            except openai.APIStatusError as error:
                found["whole"] = error

        def stream() -> None:
            try:
                list(client.completions.create(stream=True, **settings(api)))
            except openai.APIError as error:
                found["stream"] = error

        readers = [threading.Thread(target=whole), threading.Thread(target=stream)]
        for reader in readers:
            reader.start()
        api.wait_busy(2)
        started = time.monotonic()
    # leaving the block asks the server to stop, as a signal does, and waits for it
    for reader in readers:
        reader.join(10)
    assert time.monotonic() - started < 5
    assert found["whole"].status_code == 503 and found["whole"].code == "server_stopping"
    assert "stopping" in str(found["stream"])


def test_a_second_interrupt_does_not_wait(demo_bundle: Path) -> None:
    with serve(demo_bundle, "--workers", "1", "--max-batch", "1", "--grace", "60") as running:
        waiting = [post(running, settings(running, max_tokens=900)) for _ in range(30)]
        running.wait_busy(20)
        started = time.monotonic()
        running.process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        status, errors = running.end(signal.SIGINT)
        assert status == 0 and "Traceback" not in errors
        assert time.monotonic() - started < 5
        for connection in waiting:
            connection.close()


def test_connections_that_send_no_request_are_closed(
    demo_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgellm.server.run._IDLE_CONNECTION_S", 1.0)
    with serve_here(demo_bundle, pause=PAUSE) as (api, _):
        silent = socket.create_connection(api.address, timeout=10)
        slow = socket.create_connection(api.address, timeout=10)
        slow.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: loc")
        busy = api.client().completions.create(stream=True, **settings(api, max_tokens=60))
        assert sum(bool(chunk.choices[0].text) for chunk in busy) > 20  # 3 s of work, not disturbed
        for connection in (silent, slow):
            assert connection.recv(100) == b""
            connection.close()


def test_the_ready_line_for_people_and_for_programs(demo_bundle: Path) -> None:
    with serve(demo_bundle, "--model-name", "mine", "--model-name", "also-mine") as running:
        ready = running.ready
        assert set(ready) == {"url", "host", "port", "pid", "model", "models", "mode", "context", "memory"}
        assert ready["memory"]["weights"] > 10**6 < ready["memory"]["available"]
        assert ready["models"] == ["mine", "also-mine"] and ready["pid"] == running.process.pid
        assert ready["url"] == f"http://127.0.0.1:{ready['port']}"
        status, errors = running.end(signal.SIGINT)
        assert status == 0 and errors == ""
    process = subprocess.Popen(
        [sys.executable, "-m", "edgellm", "serve", str(demo_bundle), "--port", "0", "--access-log"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"http://127\.0\.0\.1:\d+", line)
    assert found
    assert Api(found.group()).health()["ready"]
    process.send_signal(signal.SIGTERM)
    rest, log = process.communicate(timeout=30)
    assert rest == "" and '"GET /health HTTP/1.1" 200' in log
    assert re.findall(r"^(?:weights|cache|runtime|total) +[0-9.]+ [kMG]B", log, re.MULTILINE)


def serve_and_fail(bundle: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`edgellm serve` that ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "edgellm", "serve", str(bundle), *options],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | environment,
    )


@pytest.mark.parametrize(
    ("options", "environment", "status", "said"),
    [
        (("--port", "70000"), {}, 2, "port"),
        (("--host", "256.1.1.1"), {}, 1, "cannot listen on 256.1.1.1"),
        ((), {"EDGELLM_API_KEY": ""}, 2, "API key is empty"),
        (("--api-key", "ключ"), {}, 2, "ASCII"),
    ],
)
def test_wrong_options_end_with_one_line(
    demo_bundle: Path, options: tuple[str, ...], environment: dict[str, str], status: int, said: str
) -> None:
    ended = serve_and_fail(demo_bundle, *options, **environment)
    assert ended.returncode == status and said in ended.stderr and "Traceback" not in ended.stderr


def test_a_port_that_is_taken_is_said_before_the_model_is_loaded(demo_bundle: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = serve_and_fail(demo_bundle, "--port", str(port))
    assert ended.returncode == 1 and f"port {port}" in ended.stderr and "--port 0" in ended.stderr


def test_an_open_address_without_a_key_is_warned_about(demo_bundle: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:  # so that nothing ever listens on all networks
        port = str(taken.getsockname()[1])
        bare = serve_and_fail(demo_bundle, "--host", "0.0.0.0", "--port", port)
        keyed = serve_and_fail(demo_bundle, "--host", "0.0.0.0", "--port", port, EDGELLM_API_KEY="k")
        local = serve_and_fail(demo_bundle, "--port", port)
    assert "warning: 0.0.0.0" in bare.stderr and "EDGELLM_API_KEY" in bare.stderr
    assert "warning" not in keyed.stderr and "warning" not in local.stderr


def test_a_missing_package_is_named_with_the_command(demo_bundle: Path, tmp_path: Path) -> None:
    script = (
        "import sys, importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda n, *a: None if n in ('fastapi', 'uvicorn') else find(n, *a)\n"
        "from edgellm.cli import main; sys.argv = ['edgellm', 'serve', sys.argv[1]]; main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, str(demo_bundle)], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 1
    assert "fastapi, uvicorn" in ended.stderr and "pip install 'edgellm[serve]'" in ended.stderr


def test_the_server_is_not_imported_by_help() -> None:
    script = (
        "import sys; from edgellm.cli import cli\n"
        "cli.main(['serve', '--help'], standalone_mode=False)\n"
        "heavy = {'fastapi', 'uvicorn', 'prometheus_client', 'numpy', 'ctranslate2'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert "EDGELLM_" in ended.stdout or "--host" in ended.stdout

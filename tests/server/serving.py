"""Servers for tests: `edgellm serve` as a user starts it, and one in this process over a slow executor."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from openai import OpenAI

from edgellm.backends.executor import Float32s, StepInput
from edgellm.bundle import Bundle
from edgellm.engine import Engine
from edgellm.server.run import Ready, bind, create_server
from edgellm.server.settings import ServerSettings
from tests.engine.numpy_executor import NumpyExecutor

START_SECONDS = 60.0


class Api:
    """A server's address and a few ways to talk to it."""

    def __init__(self, url: str, model: str = "") -> None:
        self.url = url
        self.model = model
        self.address = (urlsplit(url).hostname or "", urlsplit(url).port or 0)

    def client(self, key: str = "none", **settings: Any) -> OpenAI:
        """The official client; no retries, so that errors show."""
        return OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=60, **settings)

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        """(status, headers, body) of one plain request."""
        connection = http.client.HTTPConnection(*self.address, timeout=30)
        try:
            data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
            kind = {"Content-Type": "application/json"} if data is not None else {}
            connection.request(method, path, data, kind | dict(headers or {}))
            response = connection.getresponse()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
        finally:
            connection.close()

    def error(
        self, method: str, path: str, body: object = None, **headers: str
    ) -> tuple[int, dict[str, Any]]:
        """(status, error object), having checked the shape that OpenAI gives errors."""
        status, _, text = self.call(method, path, body, headers)
        said = json.loads(text)
        assert set(said) == {"error"}
        assert set(said["error"]) == {"message", "type", "param", "code"}
        assert said["error"]["message"] and said["error"]["type"]
        return status, said["error"]

    def health(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.call("GET", "/health")[2])
        return found

    def metrics(self, key: str | None = None) -> dict[str, float]:
        """The samples of /metrics by name and labels."""
        text = self.call("GET", "/metrics", headers={"Authorization": f"Bearer {key}"} if key else None)[2]
        samples = re.findall(r"^([a-z_]+(?:\{[^}]*\})?) (\S+)$", text.decode(), re.MULTILINE)
        return {name: float(value) for name, value in samples}

    def wait_idle(self, seconds: float) -> float:
        """Wait until nothing runs or waits; the seconds it took. Fails after `seconds`."""
        started = time.monotonic()
        while True:
            found = self.health()
            if not found["running"] and not found["waiting"]:
                return time.monotonic() - started
            assert time.monotonic() - started < seconds, f"still busy: {found}"
            time.sleep(0.02)

    def wait_busy(self, running: int, seconds: float = 20.0) -> None:
        """Wait until at least `running` generations hold a place or wait for one."""
        until = time.monotonic() + seconds
        while (found := self.health())["running"] + found["waiting"] < running:
            assert time.monotonic() < until, f"never busy: {found}"
            time.sleep(0.02)


class Process(Api):
    """A running `edgellm serve`."""

    def __init__(self, process: subprocess.Popen[str], ready: dict[str, Any]) -> None:
        super().__init__(ready["url"], ready["model"])
        self.process = process
        self.ready = ready

    def end(self, number: int, seconds: float = 30.0) -> tuple[int, str]:
        """Send a signal; (exit status, stderr)."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=seconds)
        return self.process.returncode, errors


@contextmanager
def serve(bundle: Path, *options: str, **environment: str) -> Iterator[Process]:
    """`edgellm serve BUNDLE --port 0 --json …` until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "edgellm", "serve", str(bundle), "--port", "0", "--json", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={k: v for k, v in os.environ.items() if not k.startswith("EDGELLM_")} | environment,
    )
    killer = threading.Timer(START_SECONDS, process.kill)
    killer.start()
    assert process.stdout is not None and process.stderr is not None
    line = process.stdout.readline()
    killer.cancel()
    try:
        assert line, f"it did not start: {process.stderr.read()}"
        yield Process(process, json.loads(line))
    finally:
        process.kill()
        process.communicate()


class SlowExecutor(NumpyExecutor):
    """Step-level, and slow enough that a test can look at an answer while it is under way."""

    pause = 0.0

    def step(self, step: StepInput) -> Float32s:
        time.sleep(self.pause)
        return super().step(step)


@contextmanager
def serve_here(
    bundle: Path, *, pause: float = 0.0, max_batch: int = 4, max_queue: int = 256, **settings: Any
) -> Iterator[tuple[Api, SlowExecutor]]:
    """A server in this process, over the bundle's tokenizer and a random numpy model of `pause` s a step."""
    vocab = Bundle.open(bundle).manifest.model.vocab_size
    executor = SlowExecutor(
        vocab_size=vocab, context=256, max_batch=max_batch, block_size=16, num_blocks=128, max_step_tokens=64
    )
    executor.pause = pause
    with Engine(bundle, executor=executor, max_queue=max_queue) as engine:
        chosen = ServerSettings(port=0, **settings)
        started: list[Ready] = []
        ready = threading.Event()

        def on_ready(said: Ready) -> None:
            started.append(said)
            ready.set()

        sock = bind(chosen)
        server = create_server(engine, chosen, sock, on_ready)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
        thread.start()
        try:
            assert ready.wait(30)
            yield Api(started[0].url, started[0].models[0]), executor
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()

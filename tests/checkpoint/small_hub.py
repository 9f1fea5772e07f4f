"""A small Hugging Face hub on 127.0.0.1: the part of its protocol that a model's download uses."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


class SmallHub:
    """Models by id; counts requests, and can cut connections.

    Attributes:
        requests: (method, path, Range header) of each request, in order.
        cut_after: bytes of a safetensors file after which connections break, None = never.
        cuts_left: how many connections break.
    """

    def __init__(self) -> None:
        self.models: dict[str, dict[str, dict[str, bytes]]] = {}
        self.heads: dict[tuple[str, str], str] = {}
        self.gated: set[str] = set()
        self.requests: list[tuple[str, str, str | None]] = []
        self.cut_after: int | None = None
        self.cuts_left = 0
        self.failing = False

    def add(self, model: str, directory: Path, revision: str = "main") -> str:
        """Serve the files of `directory` as `model`; returns the commit."""
        files = {
            path.relative_to(directory).as_posix(): path.read_bytes()
            for path in directory.rglob("*")
            if path.is_file()
        }
        commit = hashlib.sha1(
            model.encode() + b"".join(k.encode() + v for k, v in sorted(files.items()))
        ).hexdigest()
        self.models.setdefault(model, {})[commit] = files
        self.heads[model, revision] = commit
        return commit

    def commit(self, model: str, revision: str) -> str | None:
        """The commit of a branch, tag or commit."""
        return revision if revision in self.models.get(model, {}) else self.heads.get((model, revision))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: SmallHub

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = urlsplit(self.path).path
        self.hub.requests.append((self.command, unquote(path), self.headers.get("Range")))
        if self.hub.failing:
            return self._send(503, b"down", {}, body)
        parts = [unquote(part) for part in path.strip("/").split("/")]  # a revision may hold a slash
        api = parts[:2] == ["api", "models"]
        if api:
            parts = parts[2:]
        model = "/".join(parts[:2])
        if model not in self.hub.models:
            return self._send(404, b"", {"X-Error-Code": "RepoNotFound"}, body)
        if model in self.hub.gated and self.headers.get("Authorization") != "Bearer hf_good":
            return self._send(403, b"", {"X-Error-Code": "GatedRepo"}, body)
        revision = parts[3] if len(parts) > 3 else "main"
        commit = self.hub.commit(model, revision)
        if commit is None:
            return self._send(404, b"", {"X-Error-Code": "RevisionNotFound"}, body)
        files = self.hub.models[model][commit]
        if api and len(parts) > 2 and parts[2] == "tree":
            entries = [
                {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for name, data in files.items()
            ]
            return self._send(200, json.dumps(entries).encode(), {"Content-Type": "application/json"}, body)
        if api:
            info = {
                "id": model,
                "modelId": model,
                "sha": commit,
                "private": False,
                "tags": [],
                "downloads": 0,
            }
            info |= {"siblings": [{"rfilename": name} for name in files]}
            return self._send(200, json.dumps(info).encode(), {"Content-Type": "application/json"}, body)
        name = "/".join(parts[4:])
        if parts[2] != "resolve" or name not in files:
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound"}, body)
        headers = {
            "X-Repo-Commit": commit,
            "ETag": f'"{hashlib.sha1(files[name]).hexdigest()}"',
            "Accept-Ranges": "bytes",
        }
        return self._send_file(name, files[name], headers, body)

    def _send_file(self, name: str, data: bytes, headers: dict[str, str], body: bool) -> None:
        status, start = 200, 0
        asked = self.headers.get("Range")
        if asked and asked.startswith("bytes="):
            start = int(asked.removeprefix("bytes=").split("-")[0])
            status = 206
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        part = data[start:]
        hub = self.hub
        if body and name.endswith(".safetensors") and hub.cut_after is not None and hub.cuts_left > 0:
            hub.cuts_left -= 1
            self._send(status, part[: hub.cut_after], {**headers, "Content-Length": str(len(part))}, True)
            self.close_connection = True
            self.connection.close()
            return
        self._send(status, part, headers, body)

    def _send(self, status: int, data: bytes, headers: dict[str, str], body: bool) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(data)
        self.wfile.flush()


@contextmanager
def serving(hub: SmallHub) -> Iterator[str]:
    """Serve on a free port of 127.0.0.1; yields the address."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

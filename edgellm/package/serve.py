"""A small server for a packaged site on this machine: the manifest's files, with its headers and ranges."""

from __future__ import annotations

import contextlib
import re
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from edgellm.errors import EdgeLLMError
from edgellm.package.site import SITE_NAME, Site

HOST = "127.0.0.1"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".wgsl": "text/plain; charset=utf-8",
    ".jinja": "text/plain; charset=utf-8",
}
_CHUNK_BYTES = 256 << 10
_IDLE_S = 60


class SiteServer(ThreadingHTTPServer):
    """Serves one site on 127.0.0.1; only files that its manifest lists are ever opened."""

    daemon_threads = True

    def __init__(self, path: Path, site: Site, port: int) -> None:
        """Bind to `port`, 0 = any free one. EdgeLLMError: it is taken."""
        self.path = path
        self.site = site
        self.listed = {SITE_NAME, *(entry.path for entry in site.files)}
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise EdgeLLMError(
                f"cannot listen on {HOST} port {port}: {error.strerror}; choose another with --port, or "
                "--port 0 for any free one"
            ) from None

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{HOST}:{self.server_address[1]}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away is nothing to report."""


class _Handler(BaseHTTPRequestHandler):
    server: SiteServer
    server_version = "edgellm"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_S

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: what a page loads is not worth a line."""

    def _answer(self, *, body: bool) -> None:
        name = unquote(urlsplit(self.path).path).removeprefix("/") or "index.html"
        if name not in self.server.listed:
            self._head(HTTPStatus.NOT_FOUND, 0)
            return
        with (self.server.path / name).open("rb") as stream:
            size = stream.seek(0, 2)
            start, end = 0, size
            status = HTTPStatus.OK
            if asked := self.headers.get("Range"):
                found = re.fullmatch(r"bytes=([0-9]{1,15})-([0-9]{0,15})", asked.strip())
                if found:
                    start = int(found[1])
                    end = min(size, int(found[2]) + 1) if found[2] else size
                    if start >= size or end <= start:
                        self._head(
                            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
                            0,
                            {"Content-Range": f"bytes */{size}"},
                        )
                        return
                    status = HTTPStatus.PARTIAL_CONTENT
            more = {
                "Content-Type": _TYPES.get(Path(name).suffix, "application/octet-stream"),
                "Accept-Ranges": "bytes",
            }
            if status == HTTPStatus.PARTIAL_CONTENT:
                more["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
            self._head(status, end - start, more)
            if not body:
                return
            stream.seek(start)
            left = end - start
            while left and (chunk := stream.read(min(_CHUNK_BYTES, left))):
                self.wfile.write(chunk)
                left -= len(chunk)

    def _head(self, status: HTTPStatus, length: int, more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**self.server.site.headers, **(more or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()


def serve_forever(server: SiteServer) -> None:
    """Serve until Ctrl-C or a signal."""
    with contextlib.closing(server.socket):
        server.serve_forever(poll_interval=0.2)

"""The chat page at `/`: its files, held in memory, under a strict Content-Security-Policy."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import Response

_STATIC = Path(__file__).with_name("static")

# path -> (file, media type); nothing else under static/ is ever read.
_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/static/theme.css": ("theme.css", "text/css; charset=utf-8"),
    "/static/chat.css": ("chat.css", "text/css; charset=utf-8"),
    "/static/chat.js": ("chat.js", "text/javascript; charset=utf-8"),
    "/static/icon.svg": ("icon.svg", "image/svg+xml"),
    "/favicon.ico": ("icon.svg", "image/svg+xml"),
}

# Only the page's own files and its own server: even a bug that let a model's words become markup could
# neither run a script nor reach another host.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)


def page_routes() -> APIRouter:
    """Routes of the page's files."""
    pages = APIRouter(include_in_schema=False)
    for path, (name, media_type) in _FILES.items():
        content = (_STATIC / name).read_bytes()
        pages.add_api_route(path, _sender(content, media_type), methods=["GET", "HEAD"])
    return pages


def _sender(content: bytes, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    headers = {
        "Content-Type": media_type,
        "Content-Security-Policy": _POLICY,
        "ETag": f'"{hashlib.sha256(content).hexdigest()[:32]}"',
        "Cache-Control": "no-cache",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }

    async def send(request: Request) -> Response:
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers)

    return send

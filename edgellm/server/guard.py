"""What every request meets first: Host check, API key, body size and time limits, errors, counting.

Plain ASGI, since the usual middleware classes buffer or detach streams: responses pass through
unchanged and the client's disconnection stays visible to the endpoint.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
import traceback

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgellm.server.errors import ApiError
from edgellm.server.metrics import Metrics, RequestRecord
from edgellm.server.settings import ServerSettings

log = logging.getLogger("edgellm.server")

RECORD = "edgellm.record"
"""Key of the request's `RequestRecord` in its ASGI scope."""

_LINGER_BYTES = 16 << 20
_LINGER_SECONDS = 5.0


class ClientGoneError(Exception):
    """The client disconnected; there is nobody to answer."""


class Guard:
    """Wraps the application."""

    def __init__(self, app: ASGIApp, settings: ServerSettings, metrics: Metrics) -> None:
        self.app = app
        self.settings = settings
        self.metrics = metrics
        self.host_names = settings.host_names
        self.key = settings.api_key.encode() if settings.api_key is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        record = scope[RECORD] = RequestRecord(scope["path"])
        answer = _Answer(send)
        try:
            self._check_host(scope)
            self._check_key(scope)
            await self.app(scope, await self._buffered(scope, receive), answer)
        except ApiError as error:
            await answer.error(error)
        except ClientGoneError:
            record.outcome = "disconnected"
        except Exception as error:
            log.error("%s %s failed: %s: %s", scope["method"], scope["path"], type(error).__name__, error)
            log.debug("%s", "".join(traceback.format_exception(error)))
            if answer.status:
                raise
            await answer.error(ApiError(500, "the server failed to answer; its log says why"))
        finally:
            self.metrics.count(record, answer.status)

    def _check_host(self, scope: Scope) -> None:
        if self.host_names is None:
            return
        said = _header(scope, b"host") or b""
        if _host_name(said.decode("latin-1")) not in self.host_names:
            raise ApiError(
                403,
                f"the Host header {said.decode('latin-1')[:100]!r} is not a name of this server; "
                "start it with --allowed-host NAME to accept one",
            )

    def _check_key(self, scope: Scope) -> None:
        if self.key is None or _is_public(scope["path"]):
            return
        said = _header(scope, b"authorization") or b""
        scheme, _, key = said.partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(key.strip(), self.key):
            what = "the API key is wrong" if said else "an API key is needed"
            raise ApiError(
                401,
                f"{what}: send the header Authorization: Bearer KEY",
                headers={"WWW-Authenticate": "Bearer"},
            )

    async def _buffered(self, scope: Scope, receive: Receive) -> Receive:
        """Read the whole body, within its limits; the returned `receive` gives it out once."""
        if scope["method"] not in ("POST", "PUT", "PATCH"):
            return receive
        limit = self.settings.max_body_bytes
        too_large = ApiError(
            413, f"the body is larger than {limit:,} bytes (--max-body)", headers={"Connection": "close"}
        )
        declared = _header(scope, b"content-length") or b"0"
        if not declared.isdigit() or int(declared[:20]) > limit:
            if _header(scope, b"expect") is None:
                await _linger(receive)
            raise too_large
        media = (_header(scope, b"content-type") or b"").partition(b";")[0].strip().lower()
        if scope["path"].startswith("/v1/") and media != b"application/json":
            # Also keeps pages of other web sites out: this type needs their origin's consent (CORS) first.
            raise ApiError(415, "send the header Content-Type: application/json")
        body = bytearray()
        try:
            async with asyncio.timeout(self.settings.body_timeout_s):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGoneError
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
                    if len(body) > limit:
                        if more:
                            await _linger(receive)
                        raise too_large
        except TimeoutError:
            raise ApiError(
                408,
                f"the body did not arrive within {self.settings.body_timeout_s:g} s",
                headers={"Connection": "close"},
            ) from None
        return _Replay(bytes(body), receive)


class _Replay:
    """A `receive` that gives the body once, then whatever comes after it (the disconnection)."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self.body: bytes | None = body
        self.receive = receive

    async def __call__(self) -> Message:
        if self.body is None:
            return await self.receive()
        body, self.body = self.body, None
        return {"type": "http.request", "body": body, "more_body": False}


class _Answer:
    """A `send` that adds a request id and remembers the status (0 = nothing sent yet)."""

    def __init__(self, send: Send) -> None:
        self.send = send
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            request_id = b"req-" + secrets.token_hex(8).encode()
            message["headers"] = [
                *message.get("headers", []),
                (b"x-request-id", request_id),
                (b"x-content-type-options", b"nosniff"),
            ]
        await self.send(message)

    async def error(self, error: ApiError) -> None:
        body = error.json()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        headers += [(k.lower().encode(), v.encode()) for k, v in error.headers.items()]
        await self({"type": "http.response.start", "status": error.status, "headers": headers})
        await self({"type": "http.response.body", "body": body})


async def _linger(receive: Receive) -> None:
    """Throw away some more of a refused body: closing at once would reset the connection, and the
    client would see that instead of the answer."""
    left = _LINGER_BYTES
    try:
        async with asyncio.timeout(_LINGER_SECONDS):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
    except TimeoutError:
        return


def _header(scope: Scope, name: bytes) -> bytes | None:
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None


def _host_name(host: str) -> str:
    """The name in a Host header, without its port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def _is_public(path: str) -> bool:
    return path in ("/", "/health", "/favicon.ico") or path.startswith("/static/")

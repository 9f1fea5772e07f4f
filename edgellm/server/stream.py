"""Answering while watching the client: whoever disconnects frees its place at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from edgellm.server import wire
from edgellm.server.guard import ClientGoneError

T = TypeVar("T")

# Seconds of silence after which a stream says that it is alive.
_HEARTBEAT_S = 15.0


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`.

    Raises:
        ClientGoneError: the client disconnected first; `work` was cancelled.
    """
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGoneError
        return task.result()
    finally:
        task.cancel()
        watch.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """Server-sent events, each sent as soon as `events` yields it.

    Args:
        events: the events, encoded.
        on_close: called once, when the stream has ended or the client has gone.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None], on_close: Callable[[], None]) -> None:
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]  # unknown: the body goes out in chunks
        self.events = events
        self.on_close = on_close
        self.last_sent = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await unless_gone(receive, self._send(send))
        finally:
            self.on_close()

    async def _send(self, send: Send) -> None:
        clock = asyncio.get_running_loop().time
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        self.last_sent = clock()
        heartbeat = asyncio.ensure_future(self._heartbeat(send))
        try:
            async with aclosing(self.events) as events:
                async for event in events:
                    await send({"type": "http.response.body", "body": event, "more_body": True})
                    self.last_sent = clock()
        finally:
            heartbeat.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _heartbeat(self, send: Send) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(_HEARTBEAT_S)
            if clock() - self.last_sent >= _HEARTBEAT_S:
                await send({"type": "http.response.body", "body": wire.WAITING, "more_body": True})

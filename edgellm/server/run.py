"""Running the server: the socket, the signals, the way down."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any

from edgellm.errors import EdgeLLMError, MissingDependencyError
from edgellm.server.settings import ServerSettings

if TYPE_CHECKING:
    import uvicorn

    from edgellm.engine import Engine

log = logging.getLogger("edgellm.server")

_IDLE_CONNECTION_S = 30.0
# Beyond the grace time, for cancelled answers to reach their clients.
_LAST_WORDS_S = 5


@dataclass(frozen=True)
class Ready:
    """What a started server says about itself."""

    url: str
    host: str
    port: int
    models: tuple[str, ...]


def require_dependencies() -> None:
    """Raises MissingDependencyError if the packages of the extra `serve` are missing."""
    needed = ("fastapi", "uvicorn", "prometheus_client")
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        raise MissingDependencyError(
            f"serving needs {', '.join(missing)}, which is not installed; run: pip install 'edgellm[serve]'"
        )


def bind(settings: ServerSettings) -> socket.socket:
    """A socket bound to the settings' address, not yet listening.

    Raises:
        EdgeLLMError: the address is taken, not this machine's, or not allowed.
    """
    host = settings.host.strip("[]")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
    except OSError as error:
        raise EdgeLLMError(f"cannot listen on {settings.host}: {error.strerror or error}") from None
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError as error:
        sock.close()
        raise EdgeLLMError(
            f"cannot listen on {settings.host} port {settings.port}: {error.strerror}; "
            "choose another with --port, or --port 0 for any free one"
        ) from None
    return sock


def run(
    engine: Engine, settings: ServerSettings, sock: socket.socket, on_ready: Callable[[Ready], None]
) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP, then let running answers finish for `grace_s` and return.

    Where the engine's device is lost, serving ends, so that whatever watches this process starts it anew.

    Args:
        sock: from `bind`; closed at the end.
        on_ready: called once, when requests are taken.

    Raises:
        DeviceLostError: the engine's.
    """
    with contextlib.closing(sock):
        create_server(engine, settings, sock, on_ready).run(sockets=[sock])
    if engine.failure is not None:
        raise engine.failure


def create_server(
    engine: Engine, settings: ServerSettings, sock: socket.socket, on_ready: Callable[[Ready], None]
) -> uvicorn.Server:
    """The server that `run` runs; setting its `should_exit` stops it as a signal does."""
    require_dependencies()
    import uvicorn

    from edgellm.server.app import create_app

    app = create_app(engine, settings)
    service = app.state.service
    host, port = sock.getsockname()[:2]
    ready = Ready(_url(host, port), host, port, service.names)

    class Server(uvicorn.Server):
        """uvicorn's, which prints nothing of its own, sweeps idle connections and ends in good order."""

        loop: asyncio.AbstractEventLoop
        idle: dict[Any, tuple[int, float]]  # connection -> (id of its last request, idle since)

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            self.loop = asyncio.get_running_loop()
            self.idle = {}
            on_ready(ready)

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            super().handle_exit(sig, frame)
            if self.force_exit:
                # Not from here: a signal may have come in the middle of anything, locks held.
                self.loop.call_soon_threadsafe(service.cancel_all)

        async def on_tick(self, counter: int) -> bool:
            if counter % 10 == 0:
                self._sweep()
                if engine.failure is not None:
                    self.should_exit = True
            return await super().on_tick(counter)

        def _sweep(self) -> None:
            """Close connections that have sent no whole request head for long: each costs a file handle."""
            now = time.monotonic()
            idle = {}
            for connection in list(self.server_state.connections):
                cycle = getattr(connection, "cycle", None)
                if cycle is not None and not cycle.response_complete:
                    continue
                last, since = self.idle.get(connection, (id(cycle), now))
                idle[connection] = (id(cycle), since if last == id(cycle) else now)
                if now - idle[connection][1] > _IDLE_CONNECTION_S and connection.transport is not None:
                    connection.transport.close()
            self.idle = idle

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            service.stopping = True
            out_of_time = asyncio.get_running_loop().call_later(settings.grace_s, service.cancel_all)
            await super().shutdown(sockets)
            out_of_time.cancel()

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            # Unlike uvicorn's: a signal that was obeyed is not raised again, so that the exit is orderly.
            if threading.current_thread() is not threading.main_thread():
                yield
                return
            numbers = [signal.SIGINT, signal.SIGTERM]
            if (hangup := getattr(signal, "SIGHUP", None)) and signal.getsignal(hangup) != signal.SIG_IGN:
                numbers.append(hangup)
            before = {number: signal.signal(number, self.handle_exit) for number in numbers}
            try:
                yield
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)

    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=settings.access_log,
        lifespan="off",
        ws="none",
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=int(settings.grace_s) + _LAST_WORDS_S,
        backlog=1024,
    )
    return Server(config)


def _url(host: str, port: int) -> str:
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"

"""The OpenAI-compatible HTTP server over an engine, and the chat page it shows.

    guard      what a request meets first: Host, key, size, time
    schemas    what a request may say      fields     what it may not, and why
    answers    the generations of one request, merged into one stream
    routes     one function an endpoint    wire       what goes back
    run        sockets, signals, shutdown

FastAPI, uvicorn and prometheus_client come with the extra `serve`; nothing here imports them until a
server is started.
"""

from __future__ import annotations

from edgellm.server.settings import ServerSettings

__all__ = ["ServerSettings"]

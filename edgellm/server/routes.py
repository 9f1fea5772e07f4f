"""The endpoints: the OpenAI API, `/health`, `/metrics`, and the chat page."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from edgellm.server import wire
from edgellm.server.metrics import CONTENT_TYPE
from edgellm.server.page import page_routes
from edgellm.server.schemas import ChatRequest, CompletionRequest
from edgellm.server.service import Service


def routes(service: Service) -> APIRouter:
    """One function an endpoint, over `service`."""
    api = APIRouter()
    engine = service.engine

    @api.get("/v1/models")
    async def list_models() -> Response:
        """The served model, under each of its names."""
        return _json(wire.models(service.names, service.created, engine.context))

    @api.get("/v1/models/{name:path}")
    async def one_model(name: str) -> Response:
        """The served model, if it has this name."""
        return _json(wire.model(service.model_name(name), service.created, engine.context))

    @api.post("/v1/chat/completions")
    async def chat(body: ChatRequest, request: Request) -> Response:
        """Answer a conversation; with `stream`, as server-sent events."""
        return await service.chat(body, request)

    @api.post("/v1/completions")
    async def complete(body: CompletionRequest, request: Request) -> Response:
        """Continue texts; with `stream`, as server-sent events."""
        return await service.complete(body, request)

    @api.get("/health")
    async def health() -> Response:
        """Whether requests are taken, and how many are under way; 503 while stopping."""
        stats = engine.stats()
        said = {
            "status": "stopping" if service.stopping else "ok",
            "ready": not service.stopping,
            "model": service.names[0],
            "mode": engine.mode,
            "context": engine.context,
            "running": stats.running,
            "waiting": stats.waiting,
        }
        return _json(said, 503 if service.stopping else 200)

    @api.get("/metrics")
    async def metrics() -> Response:
        """Prometheus' text format."""
        return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    api.include_router(page_routes())
    return api


def _json(value: object, status: int = 200) -> Response:
    return Response(wire.encode(value), status, media_type="application/json")

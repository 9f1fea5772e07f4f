"""`create_app`: the ASGI application over an engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

import edgellm
from edgellm.server.errors import ApiError, from_validation
from edgellm.server.guard import Guard
from edgellm.server.metrics import Metrics
from edgellm.server.routes import routes
from edgellm.server.service import Service
from edgellm.server.settings import ServerSettings

if TYPE_CHECKING:
    from edgellm.engine import Engine


def create_app(engine: Engine, settings: ServerSettings) -> FastAPI:
    """The application; its `state.service` is the `Service`. It does not close `engine`."""
    # The interactive documentation pages load scripts from elsewhere, so only the schema is served.
    app = FastAPI(title="edgellm", version=edgellm.__version__, docs_url=None, redoc_url=None)
    metrics = Metrics(engine)
    service = Service(engine, metrics, settings.model_names or _bundle_names(engine))
    app.state.service = service
    app.include_router(routes(service))
    app.add_exception_handler(ApiError, _on_api_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_middleware(Guard, settings=settings, metrics=metrics)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["x-request-id", "retry-after"],
        )
    return app


def _bundle_names(engine: Engine) -> tuple[str, ...]:
    """The checkpoint's name, its last part, and the bundle directory's name."""
    name = engine.bundle.manifest.source.name
    names = (name, name.rpartition("/")[2], engine.bundle.path.resolve().name)
    return tuple(dict.fromkeys(n for n in names if n)) or ("model",)


def _answer(error: ApiError) -> Response:
    return Response(error.json(), error.status, error.headers, "application/json")


async def _on_api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return _answer(error)


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _answer(from_validation(list(error.errors())))


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path[:200]
    message = {
        404: f"there is nothing at {path}; the API is under /v1",
        405: f"{request.method} is not allowed at {path}",
    }.get(error.status_code, error.detail)
    if error.status_code == 400:
        message = "the body cannot be read as JSON (malformed, or nested too deeply)"
    return _answer(ApiError(error.status_code, message, headers=error.headers))

"""The ASGI application: the page, the HTTP API and the WebSocket for streams."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.resources import files

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute

from asrkit.errors import AsrkitError
from asrkit.io.json_text import json_text
from asrkit.serve.answers import Refusal, fault_text, status_of
from asrkit.serve.guard import Access, App, Guard
from asrkit.serve.live import Live
from asrkit.serve.openapi import describe
from asrkit.serve.recording import OPERATIONS, endpoint
from asrkit.serve.service import Service

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def make_app(service: Service, access: Access) -> App:
    """Make the application that serves these models. Only clients that `access` admits can use it."""
    pages = {f"/{name}".removesuffix("index.html"): _page(name) for name in _page_files()}
    models = json_text([model.describe() for model in service.models.values()])
    api = json_text(describe({path: parameters for path, (parameters, _) in OPERATIONS.items()}), indent=1)
    routes = [
        *(Route(path, answer) for path, answer in pages.items()),
        *(
            Route(path, endpoint(service, parameters, recognize), methods=["POST"])
            for path, (parameters, recognize) in OPERATIONS.items()
        ),
        Route("/models", _constant(models, "application/json")),
        Route("/openapi.json", _constant(api, "application/json")),
        WebSocketRoute("/stream", Live(service, access).answer),
    ]
    handlers = {
        AsrkitError: _on_fault,
        HTTPException: _on_http_fault,
        ClientDisconnect: _on_disconnect,
        Exception: _on_error,
    }
    return Guard(Starlette(routes=routes, exception_handlers=handlers), access, pages.keys())


def _page_files() -> list[str]:
    return sorted(path.name for path in files("asrkit.serve").joinpath("page").iterdir())


def _page(name: str) -> Callable[[Request], Awaitable[Response]]:
    content = files("asrkit.serve").joinpath("page", name).read_text(encoding="utf-8")
    return _constant(content, _TYPES[name[name.rindex(".") :]])


def _constant(content: str, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        return Response(content, media_type=media_type)

    return answer


async def _on_fault(request: Request, error: Exception) -> Response:
    assert isinstance(error, AsrkitError)
    status = status_of(error)
    headers = {"retry-after": "5"} if status == 503 else None
    return Response(fault_text(error), status, headers, "application/json")


async def _on_http_fault(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    refusal = Refusal(error.status_code, f"{request.method} {request.url.path}: {error.detail}; see /openapi.json")
    return Response(fault_text(refusal), refusal.status, error.headers, "application/json")


async def _on_disconnect(request: Request, error: Exception) -> Response:
    return Response(status_code=400)  # nobody reads this answer


async def _on_error(request: Request, error: Exception) -> Response:
    fault = Refusal(500, "a fault of the server; its terminal tells more")
    return Response(fault_text(fault), fault.status, media_type="application/json")

"""Errors as RFC 9457 problem+json: what was wrong, where, and what was allowed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from nas_service.errors import InvalidRequest, NasError, NotFound, json_pointer

log = logging.getLogger(__name__)


def problem_body(error: NasError, instance: str) -> dict[str, Any]:
    """The problem's JSON; ``pointer`` names the bad value in the body."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "instance": instance,
    }
    if error.pointer is not None:
        body["errors"] = [{"detail": error.detail, "pointer": error.pointer}]
    return body


def _respond(body: dict[str, Any], headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(body, status_code=body["status"], headers=headers, media_type="application/problem+json")


def _wants_page(request: Request) -> bool:
    """A browser's navigation, not a call of the API."""
    outside = not request.url.path.startswith(("/v1/", "/fragments/", "/healthz", "/readyz", "/openapi.json"))
    return outside and "text/html" in request.headers.get("accept", "")


def install_problems(app: FastAPI, page_for_error: Callable[[Request, NasError], Response]) -> None:
    """Turn every error of a route into problem+json, or into a page where a browser navigates."""

    @app.exception_handler(NasError)
    async def _nas(request: Request, error: NasError) -> Response:
        if _wants_page(request):
            return page_for_error(request, error)
        headers = {"Retry-After": str(error.retry_after)} if error.retry_after else {}
        if error.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return _respond(problem_body(error, request.url.path), headers)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> Response:
        entries = [_entry(item, error.body) for item in error.errors()]
        errors = list({(e["pointer"], e.get("parameter")): e for e in reversed(entries)}.values())[::-1][:20]
        detail = errors[0]["detail"] + (f" (and {len(errors) - 1} more)" if len(errors) > 1 else "")
        if _wants_page(request):
            return page_for_error(request, InvalidRequest(detail))
        body = {"type": "about:blank", "title": "Invalid request", "status": 422, "detail": detail, "errors": errors}
        return _respond({**body, "instance": request.url.path})

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        if _wants_page(request) and error.status_code == 404:
            return page_for_error(request, NotFound(f"there is no page {request.url.path!r}"))
        body = {"type": "about:blank", "title": error.detail, "status": error.status_code, "detail": error.detail}
        return _respond({**body, "instance": request.url.path}, dict(error.headers or {}))

    @app.exception_handler(Exception)
    async def _unexpected(request: Request, error: Exception) -> JSONResponse:
        log.exception("unexpected error at %s %s", request.method, request.url.path)
        detail = "an unexpected error; the server's log has its traceback"
        return _respond(
            {
                "type": "about:blank",
                "title": "Internal error",
                "status": 500,
                "detail": detail,
                "instance": request.url.path,
            }
        )


NAMED = {
    "/dataset": '; allowed: {"name": …} with one of the names that GET /v1/datasets lists',
    "/space": '; allowed: {"name": …} with one of the names that GET /v1/spaces lists',
}
"""What is allowed where a request must name something."""


def _entry(item: dict[str, Any], body: Any) -> dict[str, str]:
    """One validation error: pointer, message, the value given."""
    place, *path = item["loc"]
    pointer = json_pointer(_inside(body, path) if place == "body" else path)
    given = item.get("input")
    shown = "" if isinstance(given, dict) or item["type"] == "missing" else f" (given: {given!r:.100})"
    message = str(item["msg"]).removeprefix("Value error, ")
    name = pointer or place
    if item["type"] == "extra_forbidden":
        message = "this key is not known"
    if item["type"] == "missing":
        message = "is missing" + NAMED.get(pointer, "")
    entry = {"detail": f"{name}: {message}{shown}", "pointer": pointer}
    return entry if place == "body" else {**entry, "parameter": f"{place}.{path[0] if path else ''}"}


def _inside(body: Any, path: Sequence[object]) -> list[object]:
    """The part of an error's place that lies in the body: pydantic also names the member of a union that it tried."""
    found: list[object] = []
    value = body
    for part in path:
        if isinstance(value, list) and isinstance(part, int):
            value = value[part]
        elif isinstance(value, dict) and value.get("name") != part:
            value = value.get(part)
        else:
            continue
        found.append(part)
    return found

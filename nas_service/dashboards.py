"""Optuna's and Ray's dashboards behind our sign-in, read only."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import quote

import httpx
from a2wsgi import WSGIMiddleware
from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response, StreamingResponse
from optuna_dashboard import wsgi
from starlette.requests import cookie_parser

from nas_service.api.auth import COOKIE, Viewer, identify
from nas_service.api.state import State, StateDep
from nas_service.errors import Forbidden, Unavailable
from nas_service.search.mirror import mirror_storage

router = APIRouter(include_in_schema=False)

CHANGES = re.compile(
    r"(task|worker)/\w*(traceback|profile)|memory_profile|api/v0/delay|actors/kill|api/packages", re.IGNORECASE
)
"""Paths of Ray's dashboard that do something on GET: attach a profiler, wait, kill, unpack code."""
HOP = {
    "connection",
    "transfer-encoding",
    "content-length",
    "content-encoding",
    "keep-alive",
    "set-cookie",
    "authorization",
}


@router.get("/ray")
@router.get("/ray/{path:path}")
async def ray_dashboard(_: Viewer, state: StateDep, request: Request, path: str = "") -> Response:
    """Ray's dashboard. The proxy adds Ray's token, so the browser never sees it."""
    if not request.url.path.startswith("/ray/"):
        return Response(status_code=307, headers={"Location": "/ray/"})
    if state.cluster is None or not state.cluster.url:
        raise Unavailable("there is no Ray cluster now", retry_after=5)
    if CHANGES.search(path):
        raise Forbidden("this part of Ray's dashboard is not for reading only")
    client = httpx.AsyncClient(timeout=30, trust_env=False, follow_redirects=False)
    headers = {"Authorization": f"Bearer {state.cluster.token}", "Accept": request.headers.get("accept", "*/*")}
    try:
        upstream = await client.send(
            client.build_request(
                "GET", f"{state.cluster.url}/{quote(path)}", params=str(request.query_params), headers=headers
            ),
            stream=True,
        )
    except httpx.HTTPError as error:
        await client.aclose()
        raise Unavailable(f"Ray's dashboard does not answer: {type(error).__name__}", retry_after=5) from error

    async def body() -> AsyncIterator[bytes]:
        try:
            async for chunk in upstream.aiter_bytes():
                yield chunk
        finally:
            await upstream.aclose()
            await client.aclose()

    kept = {name: value for name, value in upstream.headers.items() if name.lower() not in HOP}
    return StreamingResponse(body(), status_code=upstream.status_code, headers=kept)


class OptunaDashboard:
    """ASGI app: Optuna's dashboard for signed-in callers, GET only; on a port of its own, for it needs a root path."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._inner: Any = None

    def open(self) -> None:
        """Open Optuna's storage; made when it is missing."""
        self._inner = WSGIMiddleware(wsgi(mirror_storage(self._state.settings)), workers=4)

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        if scope["type"] != "http":
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        cookie = cookie_parser(headers.get("cookie", "")).get(COOKIE)
        who = await run_in_threadpool(identify, self._state, headers.get("authorization"), cookie)
        answer = None
        if who is None:
            host = headers.get("host", "").rsplit(":", 1)[0] or self._state.settings.host
            answer = Response("sign in first", 303, {"Location": f"http://{host}:{self._state.settings.port}/login"})
        elif scope["method"] not in ("GET", "HEAD"):
            answer = Response("this dashboard is for reading only", 405, {"Allow": "GET, HEAD"})
        elif self._inner is None:
            answer = Response("starting", 503, {"Retry-After": "5"})
        if answer is not None:
            await answer(scope, receive, send)
            return
        if "accept-encoding" not in headers:  # the dashboard answers 500 without it
            scope["headers"] = [*scope["headers"], (b"accept-encoding", b"identity")]
        await self._inner(scope, receive, send)

"""The first thing that a request meets, in plain ASGI.

It checks host and origin, limits size and shape of JSON bodies, and adds headers for browsers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from nas_service.api.problems import problem_body
from nas_service.errors import Forbidden, InvalidRequest, NasError, TooLarge
from nas_service.settings import Settings

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

MAX_DEPTH = 32
STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)
SAFE = ("GET", "HEAD", "OPTIONS")
POLICY = (
    b"default-src 'self'; style-src 'self' 'unsafe-inline'; script-src 'self' 'unsafe-inline'; "
    b"img-src 'self' data:; connect-src 'self'"
)
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"referrer-policy", b"same-origin"),
    (b"content-security-policy", POLICY),
]


class Guard:
    """Wraps the app. 403 for foreign hosts and origins, 413 for large bodies, 422 for JSON that is not strict."""

    def __init__(self, app: App, settings: Settings) -> None:
        self._app, self._settings = app, settings

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                names = {name for name, _ in message.get("headers", [])}
                extra = [(n, v) for n, v in HEADERS if n not in names]
                message["headers"] = [*message.get("headers", []), *extra]
            await send(message)

        try:
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            self._check_origin(scope["method"], headers)
            if "\0" in scope["path"] or b"%00" in scope["query_string"]:
                raise InvalidRequest("the address holds a NUL character")
            if scope["method"] not in SAFE:
                body = await self._body(receive, headers)
                _check_json(body, headers)
                receive = _replay(body, receive)
        except NasError as error:
            await _answer(send_with_headers, error, scope["path"])
            return
        await self._app(scope, receive, send_with_headers)

    def _check_origin(self, method: str, headers: dict[str, str]) -> None:
        """Browsers that were led here by a foreign page or name (DNS rebinding) are turned away."""
        host = _hostname("//" + headers.get("host", ""))
        allowed = {"127.0.0.1", "localhost", "::1", self._settings.host, *self._settings.public_hosts}
        if host not in allowed:
            raise Forbidden(
                f"host {host!r} is not one of this server's names: {sorted(allowed)}; see the setting public_hosts"
            )
        origin = headers.get("origin")
        if origin and method not in SAFE and urlsplit(origin).netloc != headers.get("host"):
            raise Forbidden(f"origin {origin!r} is not this server")

    async def _body(self, receive: Receive, headers: dict[str, str]) -> bytes:
        limit = self._settings.max_body_bytes
        declared = headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > limit:
            raise TooLarge(f"the body has {declared} bytes; allowed: {limit}")
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise InvalidRequest("the client went away")
            part = message.get("body", b"")
            size += len(part)
            if size > limit:
                raise TooLarge(f"the body has more than {limit} bytes")
            parts.append(part)
            if not message.get("more_body"):
                return b"".join(parts)


def _hostname(netloc: str) -> str:
    """Host of a URL, lower case, without port; empty when there is none or it is malformed."""
    try:
        return urlsplit(netloc).hostname or ""
    except ValueError:
        return ""


def _check_json(body: bytes, headers: dict[str, str]) -> None:
    """RFC 8259 without duplicate keys, NaN, NUL, lone surrogates or depth beyond MAX_DEPTH. Raises InvalidRequest."""
    kind = headers.get("content-type", "").split(";")[0].strip().lower()
    if not body or kind == "application/x-www-form-urlencoded":
        return
    if kind != "application/json":
        raise InvalidRequest(f"content-type is {kind or 'missing'!r}; allowed: 'application/json'")
    if headers.get("content-encoding", "identity") != "identity":
        raise InvalidRequest("content-encoding is not allowed")
    text = body.decode("utf-8", errors="replace")
    _check_depth(text)
    try:
        value = json.loads(
            body.decode("utf-8"), parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_unique
        )
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        raise InvalidRequest("the body is not valid UTF-8 text (a lone surrogate, or broken bytes)") from error
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"the body is not JSON: {str(error)[:200]}") from error
    if "\\u0000" in text:
        raise InvalidRequest("the body holds a NUL character")


def _check_depth(text: str) -> None:
    """Count brackets outside strings, before the parser recurses into them."""
    depth = 0
    for token in STRING_OR_BRACKET.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
        if depth > MAX_DEPTH:
            raise InvalidRequest(f"the body is nested deeper than {MAX_DEPTH}")


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not allowed")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:40]} is too large")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"key {name[:100]!r} appears twice")
        found[name] = value
    return found


def _replay(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _answer(send: Send, error: NasError, path: str) -> None:
    body = json.dumps(problem_body(error, path)).encode()
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

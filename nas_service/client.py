"""A Python client: ``Client(url, token)``; every method is one request. Imports neither torch nor ray."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

ENDED = ("succeeded", "failed", "cancelled")
DEFAULT_URL = "http://127.0.0.1:8000"


PASSING = (502, 503, 504)
"""Answers of a server, or of a proxy before it, that is away for a moment."""


class ApiError(Exception):
    """The server refused: ``status`` is the HTTP status, ``errors`` lists {pointer, detail}."""

    def __init__(self, status: int, detail: str, errors: list[dict[str, str]]) -> None:
        super().__init__(detail)
        self.status, self.detail, self.errors = status, detail, errors


class Unreachable(Exception):
    """No server answers at the URL."""


def find_token(explicit: str | None = None) -> str | None:
    """The token: ``explicit``, NAS_TOKEN, the file NAS_TOKEN_FILE, or admin.token in NAS_DATA_DIR or ./nas-data."""
    if explicit:
        return explicit
    if os.environ.get("NAS_TOKEN"):
        return os.environ["NAS_TOKEN"]
    places = [os.environ.get("NAS_TOKEN_FILE"), str(Path(os.environ.get("NAS_DATA_DIR", "nas-data")) / "admin.token")]
    for place in places:
        if place and Path(place).is_file():
            return Path(place).read_text().strip()
    return None


def training_of(architecture: Mapping[str, Any], request: Mapping[str, Any]) -> dict[str, Any]:
    """The search request that trains one architecture by itself, on the data and by the recipe of ``request``.

    An earlier result of the same training is not taken: results are handed on without their weights.
    """
    space = {"name": "neighbourhood", "architecture": dict(architecture), "edits": [], "own_size": True}
    return {"reuse": "none", **request, "space": space, "budget": {"max_trials": 1}}


class Client:
    """Talks to one server. Raises ApiError when it refuses, Unreachable when it does not answer."""

    def __init__(self, url: str | None = None, token: str | None = None, timeout_seconds: float = 60.0) -> None:
        self.url = (url or os.environ.get("NAS_URL") or DEFAULT_URL).rstrip("/")
        found = find_token(token)
        headers = {"Authorization": f"Bearer {found}"} if found else {}
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=timeout_seconds, trust_env=False)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    # -- requests --------------------------------------------------------------------------------------------------

    def request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float | None = None,
    ) -> Any:
        """One request; parsed JSON, text, or None for an empty answer. ``timeout_seconds`` in place of the client's."""
        given = {name: value for name, value in (params or {}).items() if value is not None}
        try:
            answer = self._http.request(
                method, path, json=body, params=given, headers=dict(headers or {}),
                timeout=timeout_seconds or httpx.USE_CLIENT_DEFAULT,
            )  # fmt: skip
        except httpx.ReadTimeout as error:
            raise Unreachable(
                f"the server at {self.url} has not answered {method} {path} in time; it may still be at work on it"
            ) from error
        except httpx.HTTPError as error:
            raise Unreachable(f"no server answers at {self.url}: {error or type(error).__name__}") from error
        if answer.status_code >= 400:
            raise _refusal(answer)
        if not answer.content:
            return None
        return answer.json() if "json" in answer.headers.get("content-type", "") else answer.text

    def _pages(self, path: str, params: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        page: str | None = None
        while True:
            found = self.request("GET", path, params={**(params or {}), "page": page})
            yield from found["items"]
            page = found["next_page"]
            if page is None:
                return

    # -- searches --------------------------------------------------------------------------------------------------

    def submit(self, request: Mapping[str, Any], *, key: str | None = None) -> dict[str, Any]:
        """Start a search; the same ``key`` and request again gives the same search."""
        headers = {"Idempotency-Key": key} if key else {}
        return dict(self.request("POST", "/v1/searches", body=dict(request), headers=headers))

    def dry_run(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """What a search would be; nothing is stored."""
        return dict(self.request("POST", "/v1/searches", body=dict(request), params={"dry_run": "true"}))

    def searches(self) -> Iterator[dict[str, Any]]:
        """All searches, newest first."""
        return self._pages("/v1/searches")

    def search(self, search_id: str) -> dict[str, Any]:
        return dict(self.request("GET", f"/v1/searches/{search_id}"))

    def steer(self, search_id: str, action: str) -> dict[str, Any]:
        """``action`` is cancel, pause or resume."""
        return dict(self.request("POST", f"/v1/searches/{search_id}/{action}"))

    def delete(self, search_id: str) -> None:
        self.request("DELETE", f"/v1/searches/{search_id}")

    def trials(self, search_id: str, state: str | None = None) -> Iterator[dict[str, Any]]:
        return self._pages(f"/v1/searches/{search_id}/trials", {"state": state})

    def trial(self, search_id: str, number: int) -> dict[str, Any]:
        return dict(self.request("GET", f"/v1/searches/{search_id}/trials/{number}"))

    def events(self, search_id: str, after: int = 0) -> Iterator[dict[str, Any]]:
        """Events as they happen, {id, event, …data}, to the search's end; reconnects when the connection breaks."""
        silent = 0
        while True:
            try:
                for event in self._stream(search_id, after):
                    silent = 0
                    if event["event"] == "end":
                        return
                    after = event["id"]
                    yield event
            except (httpx.HTTPError, ApiError) as error:
                if isinstance(error, ApiError) and error.status not in PASSING:
                    raise
                silent += 1
                if silent > 30:
                    raise Unreachable(f"no server answers at {self.url}: {error or type(error).__name__}") from error
            time.sleep(1)

    def _stream(self, search_id: str, after: int) -> Iterator[dict[str, Any]]:
        headers = {"Last-Event-ID": str(after)}
        with self._http.stream("GET", f"/v1/searches/{search_id}/events/stream", headers=headers, timeout=60) as answer:
            if answer.status_code >= 400:
                answer.read()
                raise _refusal(answer)
            fields: dict[str, str] = {}
            for line in answer.iter_lines():
                if not line and fields:
                    yield {
                        "id": int(fields.get("id", after)),
                        "event": fields.get("event", ""),
                        **json.loads(fields.get("data", "{}")),
                    }
                    fields = {}
                elif line and not line.startswith(":"):
                    name, _, value = line.partition(": ")
                    fields[name] = value

    def wait(self, search_id: str, timeout_seconds: float = 86_400.0) -> dict[str, Any]:
        """The search once it has ended. Raises TimeoutError."""
        started = time.monotonic()
        while time.monotonic() < started + timeout_seconds:
            found = self.search(search_id)
            if found["state"] in ENDED:
                return found
            time.sleep(min(2.0, 0.1 + 0.05 * (time.monotonic() - started)))
        raise TimeoutError(f"search {search_id} has not ended after {timeout_seconds:g} s")

    # -- architectures ---------------------------------------------------------------------------------------------

    def architecture(self, fingerprint: str) -> dict[str, Any]:
        """{fingerprint, architecture, costs, trials}."""
        return dict(self.request("GET", f"/v1/architectures/{fingerprint}"))

    def keep(self, architecture: Mapping[str, Any] | None = None, reference: str | None = None) -> dict[str, Any]:
        """Store an architecture, or a published network by its name."""
        body = {"architecture": None if architecture is None else dict(architecture), "reference": reference}
        return dict(self.request("POST", "/v1/architectures", body=body))

    def scale(self, fingerprint: str, **how: Any) -> dict[str, Any]:
        """A larger or smaller network: phi (alpha, beta, gamma), depth and width, cells and filters, input_shape."""
        return dict(self.request("POST", f"/v1/architectures/{fingerprint}/scale", body=how))

    # -- exports ---------------------------------------------------------------------------------------------------

    def export(self, search_id: str, trial: int | None = None, timeout_seconds: float = 900.0) -> dict[str, Any]:
        """Pack the winner, or one trial, and wait until the package is ready. Raises ApiError when it fails."""
        made = self.request("POST", "/v1/exports", body={"search": search_id, "trial": trial})
        deadline = time.monotonic() + timeout_seconds
        while made["state"] in ("queued", "running"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"export {made['id']} is {made['state']} after {timeout_seconds:g} s")
            time.sleep(0.5)
            made = self.request("GET", f"/v1/exports/{made['id']}")
        if made["state"] == "failed":
            raise ApiError(500, f"the export failed: {made['reason']}", [])
        return dict(made)

    def download(self, export_id: str, folder: Path | str) -> list[Path]:
        """Write the files of a package into ``folder``, made when it is missing."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for file in self.request("GET", f"/v1/exports/{export_id}/files"):
            path = folder / Path(file["name"]).name
            with self._http.stream("GET", f"/v1/exports/{export_id}/files/{file['name']}", timeout=600) as answer:
                if answer.status_code >= 400:
                    answer.read()
                    raise _refusal(answer)
                with path.open("wb") as output:
                    for chunk in answer.iter_bytes():
                        output.write(chunk)
            written.append(path)
        return written


def _refusal(answer: httpx.Response) -> ApiError:
    try:
        body = answer.json()
    except ValueError:
        body = {}
    detail = body.get("detail") or answer.text[:300] or answer.reason_phrase
    return ApiError(answer.status_code, str(detail), list(body.get("errors", [])))

"""The client against a server that is away for a moment."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from nas_service.client import ApiError, Client, Unreachable

ANSWERS: list[tuple[int, bytes]] = []


class Scripted(BaseHTTPRequestHandler):
    """Answers what ANSWERS says, one after the other."""

    def do_GET(self) -> None:
        status, body = ANSWERS.pop(0)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing: the test says what is wrong."""


@pytest.fixture
def client() -> Iterator[Client]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Scripted) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with Client(f"http://127.0.0.1:{server.server_port}", token="t") as made:
            yield made
        server.shutdown()


def test_events_go_on_after_a_server_was_away(client: Client) -> None:
    one, end = b'id: 1\nevent: epoch\ndata: {"trial": 0}\n\n', b"id: 2\nevent: end\ndata: {}\n\n"
    ANSWERS[:] = [(503, b"{}"), (200, one), (502, b"<html>"), (200, end)]
    assert list(client.events("s")) == [{"id": 1, "event": "epoch", "trial": 0}]
    assert not ANSWERS


def test_a_refusal_is_no_outage(client: Client) -> None:
    ANSWERS[:] = [(404, b'{"detail": "no search"}')]
    with pytest.raises(ApiError, match="no search"):
        list(client.events("s"))


def test_a_server_that_is_at_work_is_not_told_to_be_away() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        Client(f"http://127.0.0.1:{silent.getsockname()[1]}") as client,
        pytest.raises(Unreachable, match="has not answered GET /v1/datasets in time; it may still be at work"),
    ):
        client.request("GET", "/v1/datasets", timeout_seconds=0.1)

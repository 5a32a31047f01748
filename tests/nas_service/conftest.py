"""Databases of both kinds, and a server in this process: the real app and HTTP, without Ray and drivers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from nas_service.api.auth import create_token, first_token
from nas_service.api.guard import Guard
from nas_service.api.state import State
from nas_service.app import create_app
from nas_service.database.schema import migrate
from nas_service.database.session import Database
from nas_service.settings import Settings
from tests.conftest import poll


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database, on each backend in turn."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("empty_postgresql"))
    return f"sqlite:///{tmp_path / 'nas.db'}"


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A migrated database, on each backend in turn."""
    made = Database(database_url)
    migrate(made)
    yield made
    made.close()


def settings_for(folder: Path, **changes: Any) -> Settings:
    """Settings of a server whose data lie in ``folder``."""
    given = {"data_dir": folder, "executor": "inline", "allow_drill": True, "dataset_roots": [folder / "roots"]}
    made = Settings(**{**given, **changes})
    for part in (made.data_dir, made.searches_dir, made.exports_dir, made.upload_dir):
        part.mkdir(parents=True, exist_ok=True)
    return made


class LocalServer:
    """The app behind uvicorn on a port of loopback, in a thread. No supervisor runs: searches stay as they are put."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.state = State(settings, Database(settings.url))
        migrate(self.state.database)
        self.token = first_token(self.state.database, settings).read_text().strip()
        self.state.not_ready = ""
        self.app = create_app(self.state)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        config = uvicorn.Config(
            Guard(self.app, settings), lifespan="off", log_level="critical", ws="none", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)
        self._thread.start()
        poll(lambda: self._server.started, 20, "the server listens")
        self._clients: list[httpx.Client] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def http(self, token: str | None = "admin") -> httpx.Client:
        """A client with the admin's token, with another, or with none; closed with the server."""
        text = self.token if token == "admin" else token
        headers = {"Authorization": f"Bearer {text}"} if text else {}
        made = httpx.Client(base_url=self.url, headers=headers, timeout=60, trust_env=False)
        self._clients.append(made)
        return made

    def token_for(self, role: str) -> str:
        return create_token(self.state.database, role, role)[0]

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self.state.stopping.set()
        self._server.should_exit = True
        self._thread.join(20)
        self.state.database.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """One server on SQLite for the tests of a file that leave nothing behind."""
    made = LocalServer(settings_for(tmp_path_factory.mktemp("server")))
    yield made
    made.close()


@pytest.fixture(scope="module")
def http(server: LocalServer) -> httpx.Client:
    """The admin's client of that server."""
    return server.http()


@pytest.fixture
def own_server(tmp_path: Path, database_url: str) -> Iterator[LocalServer]:
    """A server for one test, on each backend in turn."""
    made = LocalServer(settings_for(tmp_path / "data", database_url=database_url))
    yield made
    made.close()

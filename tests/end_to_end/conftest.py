"""A real server as a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nas_service.client import ApiError, Client, Unreachable
from tests.conftest import drill, free_port, poll

__all__ = ["drill", "free_port", "poll"]

FAST = {"NAS_LEASE_SECONDS": "3", "NAS_HEARTBEAT_SECONDS": "1", "NAS_SWEEP_SECONDS": "0.5", "NAS_ALLOW_DRILL": "true"}


class Service:
    """One server process and its client. `start` and `kill` may be called again and again; the data stay."""

    def __init__(self, data: Path, **environment: str) -> None:
        self.data = data
        self.environment = {**os.environ, **FAST, **environment}
        self.port, self.optuna_port = free_port(), free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._clients: list[Client] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.data.parent / "server.log").read_text()

    def start(self, *options: str) -> Client:
        """Start the process and wait until it is ready."""
        ports = ["--port", str(self.port), "--optuna-port", str(self.optuna_port), "--data", str(self.data)]
        with (self.data.parent / "server.log").open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "nas_service", "serve", *ports, *options],
                stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=self.environment,
            )  # fmt: skip
        client = Client(self.url, token="none yet", timeout_seconds=30)

        def ready() -> bool:
            assert self.process is not None
            if self.process.poll() is not None:
                pytest.fail(f"the server ended with code {self.process.returncode}:\n{self.log[-3000:]}")
            try:
                client.request("GET", "/readyz")
            except (Unreachable, ApiError):
                return False
            return True

        poll(ready, 120, f"server ready; its log:\n{self.log[-2000:]}")
        client.close()
        return self.client((self.data / "admin.token").read_text().strip())

    def client(self, token: str) -> Client:
        """A client that is closed with the service."""
        made = Client(self.url, token=token, timeout_seconds=30)
        self._clients.append(made)
        return made

    def kill(self) -> None:
        """kill -9: nothing is said goodbye to."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        for client in self._clients:
            client.close()
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def drivers(self, search_id: str) -> list[int]:
        """Process ids of the drivers of a search."""
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    words = (folder / "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if b"nas_service.search.driver" in words and search_id.encode() in words and b"-c" not in words[:2]:
                    found.append(int(folder.name))
        return found


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A server on SQLite with a Ray head of its own; stopped at the end."""
    made = Service(tmp_path / "data")
    yield made
    _end(made)


def _end(service: Service) -> None:
    service.stop()
    if (service.data / "ray.json").exists():  # the server was killed and not started again: its head is still there
        from nas_service.search.cluster import Cluster
        from nas_service.settings import load_settings

        Cluster(load_settings(data_dir=service.data)).stop()

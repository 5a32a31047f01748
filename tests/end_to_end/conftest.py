"""A real server as a process, a real PostgreSQL, and the requests that tests send."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nas_service.client import ApiError, Client, Unreachable

FAST = {"NAS_LEASE_SECONDS": "3", "NAS_HEARTBEAT_SECONDS": "1", "NAS_SWEEP_SECONDS": "0.5", "NAS_ALLOW_DRILL": "true"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def poll(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """The first true answer of ``condition``; fails after a deadline. Never sleeps longer than it must."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    pytest.fail(f"not within {seconds:g} s: {what}")


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


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """URL of a PostgreSQL server of our own, in a folder of its own."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not binaries:
        reason = "PostgreSQL is not installed (Debian's package postgresql)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="nas-pg-"))
    port = free_port()
    as_user: list[str] = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(folder, "postgres", "postgres")
        as_user = ["runuser", "-u", "postgres", "--"]

    def run(*command: str) -> None:
        subprocess.run(
            [*as_user, str(binaries[-1] / command[0]), *command[1:]], check=True, cwd="/", capture_output=True
        )

    run("initdb", "-D", f"{folder}/data", "-U", "nas", "-A", "trust")
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1"
    run("pg_ctl", "-D", f"{folder}/data", "-o", options, "-l", f"{folder}/log", "-w", "start")
    yield f"postgresql://nas@127.0.0.1:{port}/postgres"
    run("pg_ctl", "-D", f"{folder}/data", "-m", "immediate", "-w", "stop")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def empty_postgresql(postgresql: str) -> str:
    """URL of a database with nothing in it."""
    import sqlalchemy as sa

    name = f"nas_{time.time_ns()}"
    engine = sa.create_engine(
        postgresql.replace("postgresql://", "postgresql+psycopg://"), isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return postgresql.rsplit("/", 1)[0] + f"/{name}"


def drill(trials: int, **changes: Any) -> dict[str, Any]:
    """A search that trains nothing: candidates last and end as told."""
    request = {
        "name": "drill",
        "dataset": {"name": "digits"},
        "space": {"name": "residual"},
        "strategy": {"name": "rl"},
        "scheduler": {"name": "asha", "min_epochs": 1, "max_epochs": 4, "reduction_factor": 2},
        "evaluator": {"name": "drill", "settings": {"seconds_per_epoch": 0.2}},
        "budget": {"max_trials": trials},
        "finalists": {"top_k": 0},
        "resources": {"max_parallel": 2, "trial_timeout_seconds": 60},
        "seed": 3,
    }
    return {**request, **changes}

"""docker-compose.yml is valid for the real Compose, and its services, run as processes, carry a search end to end."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from nas_service.client import Client
from tests.conftest import ROOT
from tests.end_to_end.conftest import free_port, poll

FILE = ROOT / "docker-compose.yml"
BIN = Path(sys.executable).parent


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """What scripts/secrets.sh makes."""
    folder = tmp_path / "secrets"
    subprocess.run(["sh", ROOT / "scripts" / "secrets.sh"], env={**os.environ, "NAS_SECRETS": str(folder)}, check=True)
    return folder


@pytest.mark.parametrize("profile", [[], ["--profile", "gpu"]])
def test_compose_file_is_valid(profile: list[str], secrets: Path) -> None:
    environment = {**os.environ, "NAS_SECRETS": str(secrets)}
    command = [BIN / "docker-compose", "-f", FILE, *profile, "config", "-q"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    schema = subprocess.run(
        [BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", FILE],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert schema.returncode == 0, schema.stdout


def test_only_the_server_is_published_and_only_on_loopback() -> None:
    services = yaml.safe_load(FILE.read_text())["services"]
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert list(published) == ["server"]
    assert all(port.startswith("${NAS_BIND:-127.0.0.1}:") for port in published["server"])
    assert yaml.safe_load(FILE.read_text())["networks"]["inside"]["internal"] is True


def test_secrets_are_random_and_kept(secrets: Path) -> None:
    first = {path.name: path.read_text() for path in secrets.iterdir()}
    assert set(first) == {"database_password", "database_url", "ray_token"}
    assert first["database_password"] in first["database_url"]
    assert secrets.stat().st_mode & 0o077 == 0
    subprocess.run(["sh", ROOT / "scripts" / "secrets.sh"], env={**os.environ, "NAS_SECRETS": str(secrets)}, check=True)
    assert {path.name: path.read_text() for path in secrets.iterdir()} == first


class Processes:
    """The file's services as processes of this machine: containers' names and paths are replaced by ours."""

    def __init__(self, folder: Path, database_url: str, secrets: Path) -> None:
        self.file = yaml.safe_load(FILE.read_text())
        self.folder = folder
        self.ports = {"6379": free_port(), "8265": free_port(), "8000": free_port(), "8001": free_port()}
        (secrets / "database_url").write_text(database_url)
        self.words = {
            r"^/run/secrets(?=/|$)": str(secrets),
            r"^/datasets(?=/|$)": "/usr/share/datasets",
            r"^/data(?=/|$)": str(folder / "data"),
            r"(?<=[=/])head(?=:)": "127.0.0.1",
            r"0\.0\.0\.0": "127.0.0.1",
            **{rf"(?<![0-9]){port}(?![0-9])": str(mine) for port, mine in self.ports.items()},
        }
        self.ray_folder = tempfile.mkdtemp(prefix="nas-c-")
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def _ours(self, text: str) -> str:
        text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
        for pattern, mine in self.words.items():
            text, done = re.subn(pattern, mine, text)
            if done and pattern.startswith("^"):
                return text
        return text

    def start(self, name: str, *extra: str) -> subprocess.Popen[bytes]:
        service = self.file["services"][name]
        environment = {key: self._ours(value) for key, value in service["environment"].items()}
        command = [self._ours(str(word)) for word in service["command"]]
        command[0] = str(BIN / command[0])
        with (self.folder / f"{name}.log").open("ab") as output:
            kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
            kept["PATH"] = f"{BIN}:{kept['PATH']}"
            self.running[name] = subprocess.Popen(
                [*command, *extra],
                env={**kept, **environment},
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
            )
        return self.running[name]

    def healthy(self, name: str) -> bool:
        """The service's own health check."""
        service = self.file["services"][name]
        process = self.running[name]
        if process.poll() is not None:
            pytest.fail(f"{name} ended with code {process.returncode}:\n{self.log(name)}")
        command = [self._ours(str(word)) for word in service["healthcheck"]["test"][1:]]
        environment = {**os.environ, **{key: self._ours(value) for key, value in service["environment"].items()}}
        command[0] = sys.executable
        done = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=30)
        return done.returncode == 0

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()[-3000:]

    def stop(self) -> None:
        for name in ("server", "worker", "head"):
            if name in self.running:
                self.running[name].terminate()
        for process in self.running.values():
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.ray_folder, ignore_errors=True)


@pytest.fixture
def processes(tmp_path: Path, empty_postgresql: str, secrets: Path) -> Iterator[Processes]:
    made = Processes(tmp_path, empty_postgresql, secrets)
    yield made
    made.stop()


def test_services_as_processes_carry_a_search(processes: Processes) -> None:
    migrate = processes.start("migrate")
    assert migrate.wait(60) == 0, processes.log("migrate")

    free = [
        f"--{name}={free_port()}"
        for name in ("ray-client-server-port", "dashboard-agent-listen-port", "metrics-export-port")
    ]
    node = ["--node-ip-address=127.0.0.1", f"--temp-dir={processes.ray_folder}"]
    processes.start("head", *node, *free)
    poll(lambda: processes.healthy("head"), 90, f"head healthy: {processes.log('head')}")
    agent = [f"--{name}={free_port()}" for name in ("dashboard-agent-listen-port", "metrics-export-port")]
    processes.start("worker", "--node-ip-address=127.0.0.1", *agent)
    processes.start("server")
    poll(lambda: processes.healthy("server"), 90, f"server healthy: {processes.log('server')}")

    token = (processes.folder / "data" / "admin.token").read_text().strip()
    with Client(f"http://127.0.0.1:{processes.ports['8000']}", token) as client:
        poll(lambda: len(client.request("GET", "/v1/cluster")["nodes"]) == 2, 60, "head and worker in the cluster")
        request: dict[str, Any] = {
            "dataset": {"name": "digits", "max_train": 300},
            "space": {"name": "residual", "depths": [1], "widths": [8]},
            "strategy": {"name": "random"},
            "scheduler": {"name": "none", "max_epochs": 1},
            "budget": {"max_trials": 3},
            "finalists": {"top_k": 1, "epochs": 2},
            "resources": {"max_parallel": 2},
        }
        ended = client.wait(client.submit(request)["id"], 200)
        assert ended["state"] == "succeeded", ended["reason"] + processes.log("server")
        assert client.export(ended["id"])["certificate"]["passed"]
    unauthenticated = httpx.get(f"http://127.0.0.1:{processes.ports['8265']}/api/jobs/", timeout=10)
    assert unauthenticated.status_code in (401, 403), "Ray answers nobody without the token"

"""Ray from the server's side, without importing ray: a head of our own as a child process, and its job API over HTTP.

The head outlives a server that is killed: the next server finds it by the record in the data folder. A server that is
stopped in good order stops it. Token authentication is on for every head, worker and client.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from nas_service.errors import Misconfigured, Unavailable
from nas_service.settings import Settings, load_settings

log = logging.getLogger(__name__)

START_SECONDS = 90.0
PORTS = 7
"""Ports of a head that we choose: GCS, dashboard, client, two agents and two node ports."""


class Cluster:
    """The Ray cluster that drivers run on: one of our own (``ray_address = local``), or one by its dashboard's URL."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._record = settings.data_dir / "ray.json"
        self._process: subprocess.Popen[bytes] | None = None
        self.url = "" if settings.ray_address == "local" else settings.ray_address.rstrip("/")
        self.own = settings.ray_address == "local"
        self.token = _token(settings.token_path())

    # -- a head of our own -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Find our head again, or start one, and wait for its job API. Raises Misconfigured with the log's end."""
        if self.own:
            found = self._found()
            if found:
                self.url = found["url"]
                log.info("found our Ray head again: %s", self.url)
            else:
                self._launch()
        self._check_guarded()

    def ensure(self) -> None:
        """Start our own head again when its process is gone; searches wait for it with a reason meanwhile."""
        if self.own and self._process is not None and self._process.poll() is not None:
            log.error("our Ray head ended with code %s; starting another", self._process.returncode)
            self.start()

    def _check_guarded(self) -> None:
        """Ray runs whatever code it is given. Raises Misconfigured when it listens to callers without a token."""
        try:
            answer = httpx.get(f"{self.url}/api/jobs/", timeout=10, trust_env=False)
        except httpx.HTTPError:
            return  # away for now: the supervisor says so
        if answer.status_code not in (401, 403):
            raise Misconfigured(
                f"Ray at {self.url} answers without a token ({answer.status_code}): anyone who reaches it can run "
                "code; start it with RAY_AUTH_MODE=token"
            )

    def _found(self) -> dict[str, Any] | None:
        """The record of a head of ours that is alive and answers."""
        try:
            record: dict[str, Any] = json.loads(self._record.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        if _birth(record["pid"]) != record["birth"]:
            return None
        self.url = record["url"]
        with contextlib.suppress(Unavailable):
            self.version()
            return record
        self._stop(record["pid"])
        return None

    def _launch(self) -> None:
        ports = _free_ports(PORTS)
        folder = Path(tempfile.mkdtemp(prefix="nas-ray-"))  # short: unix sockets' paths are limited to 107 bytes
        log_path = self._settings.data_dir / "ray-head.log"
        names = [
            "port",
            "dashboard-port",
            "ray-client-server-port",
            "dashboard-agent-listen-port",
            "metrics-export-port",
            "node-manager-port",
            "object-manager-port",
        ]
        command = [
            sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats",
            "--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", f"--temp-dir={folder}",
            "--include-dashboard=true", *(f"--{name}={port}" for name, port in zip(names, ports, strict=True)),
        ]  # fmt: skip
        if self._settings.ray_cpus:
            command.append(f"--num-cpus={self._settings.ray_cpus}")
        if self._settings.ray_gpus >= 0:
            command.append(f"--num-gpus={self._settings.ray_gpus}")
        with log_path.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env=self.environment(),
            )
        self.url = f"http://127.0.0.1:{ports[1]}"
        record = {
            "pid": self._process.pid,
            "birth": _birth(self._process.pid),
            "url": self.url,
            "gcs": ports[0],
            "folder": str(folder),
        }
        self._record.write_text(json.dumps(record))
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(Unavailable):
                self.version()
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                end = log_path.read_text(errors="replace")[-2000:]
                self.stop()
                raise Misconfigured(
                    f"Ray's head did not come up within {START_SECONDS:g} s; the end of {log_path}:\n{end}"
                )
            time.sleep(0.2)

    def environment(self) -> dict[str, str]:
        """Environment of the head, and through it of drivers and workers."""
        ours = self._settings.environment()
        if self._settings.database_url:
            ours["NAS_DATABASE_URL"] = self._settings.database_url
        return {
            **os.environ,
            **ours,
            "NAS_DATA_DIR": str(self._settings.data_dir),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self._settings.token_path()),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",
            "RAY_DEDUP_LOGS": "0",
            "OMP_NUM_THREADS": "1",
        }

    def stop(self) -> None:
        """Stop our own head and what runs under it; searches go on when it is started again."""
        if not self.own:
            return
        try:
            record = json.loads(self._record.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return
        if _birth(record["pid"]) == record["birth"]:
            self._stop(record["pid"])
        if self._process:
            self._process.wait()
        shutil.rmtree(record["folder"], ignore_errors=True)
        self._record.unlink(missing_ok=True)

    def _stop(self, pid: int) -> None:
        """SIGTERM to the head, whose ``--block`` ends its children; SIGKILL to its process group if it does not end."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + 15
            while time.monotonic() < deadline:
                if self._process and self._process.poll() is not None:
                    break
                if _birth(pid) is None:
                    break
                time.sleep(0.1)
            os.killpg(pid, signal.SIGKILL)

    # -- jobs ------------------------------------------------------------------------------------------------------

    def version(self) -> dict[str, Any]:
        """Ray's own version record. Raises Unavailable when the cluster does not answer."""
        return dict(self._call("GET", "/api/version"))

    def submit(self, submission_id: str, entrypoint: str, metadata: dict[str, str]) -> None:
        """Start a job. Raises Unavailable when the cluster does not answer or refuses."""
        body: dict[str, Any] = {"submission_id": submission_id, "entrypoint": entrypoint, "metadata": metadata}
        self._call("POST", "/api/jobs/", body)

    def jobs(self) -> list[dict[str, Any]]:
        """Records of all jobs."""
        return [dict(job) for job in self._call("GET", "/api/jobs/")]

    def nodes(self) -> list[dict[str, Any]]:
        """Alive nodes: name, address, CPUs, GPUs and what of them is free."""
        answer = self._call("GET", "/nodes?view=summary")
        return [dict(node) for node in answer.get("data", {}).get("summary", [])]

    def _call(self, method: str, path: str, body: Any = None, *, missing_is_none: bool = False) -> Any:
        if not self.url:
            raise Unavailable("Ray is still starting", retry_after=5)
        try:
            answer = httpx.request(
                method,
                self.url + path,
                json=body,
                headers={"Authorization": f"Bearer {self.token}"},
                timeout=10,
                trust_env=False,
            )
        except httpx.HTTPError as error:
            raise Unavailable(f"Ray at {self.url} does not answer: {type(error).__name__}", retry_after=5) from error
        if answer.status_code == 404 and missing_is_none:
            return None
        if answer.status_code >= 400:
            raise Unavailable(f"Ray at {self.url} answered {answer.status_code}: {answer.text[:300]}", retry_after=5)
        return answer.json()


def _token(path: Path) -> str:
    """Ray's token, made where there is none; the file is readable by its owner only."""
    with contextlib.suppress(FileExistsError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
    return path.read_text().strip()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _birth(pid: int) -> str | None:
    """When a process began, in ticks: tells ours from a later one with its number. None when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else fields[19]


def main() -> None:
    """``python -m nas_service.search.cluster``: exit code 0 when the cluster answers; a container's health check."""
    try:
        print(json.dumps(Cluster(load_settings()).version()))
    except Unavailable as error:
        sys.exit(error.detail)


if __name__ == "__main__":
    main()

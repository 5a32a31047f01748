"""Fixtures and settings for every test."""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
if "NAS_CACHE_DIR" not in os.environ:  # workers of xdist share it
    os.environ["NAS_CACHE_DIR"] = tempfile.mkdtemp(prefix="nas-cache-")
    atexit.register(shutil.rmtree, os.environ["NAS_CACHE_DIR"], ignore_errors=True)
ROOT = Path(__file__).parent.parent


def shared_folder() -> Path | None:
    """The folder of oracles and tables beside the project: ``NAS_SHARED`` or ``../shared``; None where it is absent."""
    folder = Path(os.environ.get("NAS_SHARED", ROOT.parent / "shared"))
    return folder if (folder / "oracles" / "oracles.csv").exists() else None


@pytest.fixture(scope="session")
def shared() -> Path:
    """The shared folder; the test is skipped without it, and fails where ``CI=true``."""
    folder = shared_folder()
    if folder is None:
        reason = "no folder with oracles: set NAS_SHARED, or put it at ../shared"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


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


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """URL of a PostgreSQL server of our own, in a folder of its own."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not binaries:
        reason = "PostgreSQL is not installed (Debian's package postgresql)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    memory = Path("/dev/shm")  # a hundred small databases: much faster than on a disk
    fast = memory.is_dir() and shutil.disk_usage(memory).free > 2**30
    folder = Path(tempfile.mkdtemp(prefix="nas-pg-", dir=memory if fast else None))
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
def empty_postgresql(postgresql: str) -> Iterator[str]:
    """URL of a database with nothing in it; dropped at the end."""
    import sqlalchemy as sa

    name = f"nas_{time.time_ns()}"
    url = postgresql.replace("postgresql://", "postgresql+psycopg://")
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    yield postgresql.rsplit("/", 1)[0] + f"/{name}"
    with engine.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))


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

"""A driver is a process of the service, which ends with what started it, or a class in somebody's script."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = """
import os, sys
from pathlib import Path
from nas_service.database.schema import migrate
from nas_service.database.session import Database
from nas_service.database.tables import Search
from nas_service.search.driver import Driver
from nas_service.search.request import SearchRequest
from nas_service.search.status import create
from nas_service.settings import Settings
from tests.conftest import drill

folder = Path(sys.argv[1])
settings = Settings(data_dir=folder, executor="inline", heartbeat_seconds=0.1, allow_drill=True)
settings.searches_dir.mkdir(parents=True)
database = Database(settings.url)
migrate(database)
body = drill(4, evaluator={"name": "drill", "settings": {"seconds_per_epoch": 0.25}})
search_id = database.write(lambda session: create(session, SearchRequest.model_validate(body), "test").id)
parent = os.getppid() if sys.argv[2] == "process" else None
(folder / "pid").write_text(str(os.getpid()))
Driver(settings, search_id, parent=parent).run()
with database.read() as session:
    (folder / "state").write_text(session.get_one(Search, search_id).state)
"""


def waited(done: Callable[[], bool], seconds: float) -> bool:
    """Whether it came true within so many seconds."""
    until = time.monotonic() + seconds
    while not done() and time.monotonic() < until:
        time.sleep(0.05)
    return done()


def running(pid: int) -> bool:
    """Whether a process is there and not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(("how", "ends"), [("script", True), ("process", False)])
def test_a_script_goes_on_when_its_shell_has_gone(tmp_path: Path, how: str, ends: bool) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    command = f'"{sys.executable}" "{tmp_path}/script.py" "{tmp_path}/data" {how} & wait'
    environment = {**os.environ, "PYTHONPATH": "."}
    with (tmp_path / "output").open("wb") as output:
        shell = subprocess.Popen(["sh", "-c", command], stdout=output, stderr=output, env=environment)
    trials = tmp_path / "data" / "searches"
    assert waited(lambda: any(trials.glob("*/trials/0")), 60), (tmp_path / "output").read_text()
    shell.send_signal(signal.SIGKILL)
    shell.wait()
    pid = int((tmp_path / "data" / "pid").read_text())
    try:
        assert waited(lambda: not running(pid), 60), "it ends, one way or the other"
    finally:
        if running(pid):
            os.kill(pid, signal.SIGKILL)
    state = tmp_path / "data" / "state"
    assert (state.read_text() if state.exists() else "") == ("succeeded" if ends else "")

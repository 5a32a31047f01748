"""``Candidate`` under a real Ray Tune with reused actors: faults hit their own candidate, the others finish."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from worker_samples import drill

from workers.assignment import Failure
from workers.containment import marked_processes
from workers.ending import LOG, TRACE, explain_death

EXPECTED = {1: "timeout", 2: "crash", 3: "crash", 4: "nan", 5: "oom", 9: "crash"}
CANDIDATES = 13
SETTINGS = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
}


@dataclass(frozen=True)
class Record:
    """What Tune told about each trial: its reports, and its error where it died."""

    reports: dict[int, list[dict[str, Any]]]
    errors: dict[int, str]


@pytest.fixture(scope="session")
def top() -> Iterator[Path]:
    """A short path (Ray's sockets lie below it) that is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="nw"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def record(top: Path) -> Record:
    """All candidates, run once on two reused actors, in a process of its own: Ray reads its settings on import."""
    (top / "token").write_text("t" * 64)
    (top / "token").chmod(0o600)
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here.parent.parent), str(here)])
    environment = os.environ | SETTINGS | {"RAY_AUTH_TOKEN_PATH": str(top / "token"), "PYTHONPATH": paths}
    script = [sys.executable, str(here / "tune_session.py"), str(top)]
    done = subprocess.run(script, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-5000:]
    told = json.loads((top / "record.json").read_text())
    return Record(*({int(trial): what for trial, what in told[name].items()} for name in ("reports", "errors")))


def ending_of(record: Record, top: Path, trial: int) -> Failure | None:
    """How a driver would see the end of a trial; None where it completed."""
    if trial in record.errors:
        return explain_death(top / "trials" / str(trial), record.errors[trial])
    last = record.reports[trial][-1]
    return Failure.model_validate(last["failure"]) if "failure" in last else None


@pytest.mark.parametrize("trial", range(CANDIDATES))
def test_each_candidate_ends_as_it_should(record: Record, top: Path, trial: int) -> None:
    failure = ending_of(record, top, trial)
    assert (failure.kind if failure else None) == EXPECTED.get(trial), failure
    if failure is None:
        reports = record.reports[trial]
        assert [report["epoch"] for report in reports] == [1, 2, 3]
        assert [report["training_iteration"] for report in reports] == [1, 2, 3]
        assert not (top / "trials" / str(trial) / TRACE).exists()


def test_deaths_name_their_cause(record: Record, top: Path) -> None:
    messages = {trial: failure.message for trial in (1, 2, 3, 9) if (failure := ending_of(record, top, trial))}
    assert "deadline" in messages[1]
    assert "Segmentation fault" in messages[2]
    assert messages[3] == "called os._exit(0)"
    assert messages[9] == "called sys.exit(0)"
    stuck = ending_of(record, top, 1)
    assert stuck is not None
    assert "_hang_holding_the_gil" in stuck.traceback


def test_reports_before_a_death_are_kept(record: Record) -> None:
    assert [len(record.reports[trial]) for trial in (1, 2, 3, 4)] == [1, 1, 1, 2]


def test_a_flood_fills_no_disk(record: Record, top: Path) -> None:
    assert 1_000_000 <= (top / "trials" / "6" / LOG).stat().st_size < 1_001_000


def test_no_child_is_left(record: Record, top: Path) -> None:
    assert marked_processes(top.name) == []


def test_an_actor_that_never_steps_leaves_the_folder_alone(tmp_path: Path) -> None:
    from workers.evaluate import Candidate  # brings Ray, which this module does not need otherwise

    class Alone(Candidate):
        """Without Tune's own set-up."""

        def __init__(self) -> None:
            self.reset_config({"assignment": drill(tmp_path / "c", "ok").model_dump(mode="json")})

    Alone().cleanup()
    assert not (tmp_path / "c").exists()
    stepping, late = Alone(), Alone()
    stepping.step()
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "c").iterdir()}
    late.cleanup()
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "c").iterdir()} == before
    assert TRACE in before
    stepping.cleanup()
    assert TRACE not in {path.name for path in (tmp_path / "c").iterdir()}


def test_actors_are_reused(record: Record) -> None:
    pids = {report["pid"] for reports in record.reports.values() for report in reports}
    assert len(pids) <= 2 + 3  # two to begin with, and one for each of the three that died

"""A real pool of Ray workers: faults hit their own candidate, the others finish."""

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

from workers.assignment import Failure
from workers.containment import marked_processes
from workers.ending import BIRTH, LOG, TRACE

EXPECTED = {1: "timeout", 2: "crash", 3: "crash", 4: "nan", 5: "oom", 9: "crash", 13: "crash"}
CANDIDATES, STOPPED, UNWRITABLE = 14, 12, 13
SETTINGS = {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}


@dataclass(frozen=True)
class Record:
    """What the source was told: reports and failures of each trial, trials that the scheduler stopped, waits."""

    reports: dict[int, list[dict[str, Any]]]
    endings: dict[int, Failure]
    pruned: list[int]
    waits: list[str]


@pytest.fixture(scope="session")
def top() -> Iterator[Path]:
    """A short path (Ray's sockets lie below it) that is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="nw"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def record(top: Path) -> Record:
    """All candidates, run once on two workers, in a process of its own: Ray reads its settings on import."""
    (top / "token").write_text("t" * 64)
    (top / "token").chmod(0o600)
    here = Path(__file__).parent
    root = here.parent.parent.parent
    paths = os.pathsep.join([str(root), str(root / "tests" / "workers")])
    environment = os.environ | SETTINGS | {"RAY_AUTH_TOKEN_PATH": str(top / "token"), "PYTHONPATH": paths}
    script = [sys.executable, str(here / "pool_session.py"), str(top)]
    done = subprocess.run(script, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-5000:]
    told = json.loads((top / "record.json").read_text())
    return Record(
        {int(trial): reports for trial, reports in told["reports"].items()},
        {int(trial): Failure.model_validate(failure) for trial, failure in told["endings"].items()},
        told["pruned"],
        told["waits"],
    )


@pytest.mark.parametrize("trial", range(CANDIDATES))
def test_each_candidate_ends_as_it_should(record: Record, top: Path, trial: int) -> None:
    failure = record.endings.get(trial)
    assert (failure.kind if failure else None) == EXPECTED.get(trial), failure
    if failure is None and trial != STOPPED:
        assert [report["epoch"] for report in record.reports[trial]] == [1, 2, 3]
        assert not (top / "trials" / str(trial) / TRACE).exists()


def test_a_stopped_candidate_reports_no_more(record: Record) -> None:
    assert record.pruned == [STOPPED]
    assert [report["epoch"] for report in record.reports[STOPPED]] == [1]


def test_a_worker_that_cannot_begin_says_why(record: Record) -> None:
    assert "FileExistsError" in record.endings[UNWRITABLE].message


def test_nothing_waits_for_a_worker(record: Record) -> None:
    assert record.waits == []


def test_deaths_name_their_cause(record: Record) -> None:
    messages = {trial: record.endings[trial].message for trial in (1, 2, 3, 9)}
    assert "deadline" in messages[1]
    assert "Segmentation fault" in messages[2]
    assert messages[3] == "called os._exit(0)"
    assert messages[9] == "called sys.exit(0)"
    assert "_hang_holding_the_gil" in record.endings[1].traceback


def test_reports_before_a_death_are_kept(record: Record) -> None:
    assert [len(record.reports[trial]) for trial in (1, 2, 3, 4)] == [1, 1, 1, 2]


def test_a_flood_fills_no_disk(record: Record, top: Path) -> None:
    assert 1_000_000 <= (top / "trials" / "6" / LOG).stat().st_size < 1_001_000


def test_no_child_is_left(record: Record, top: Path) -> None:
    assert marked_processes(top.name) == []


def test_workers_are_reused(record: Record, top: Path) -> None:
    pids = set()
    for folder in (top / "trials").iterdir():
        if (folder / BIRTH).exists():
            pids.add(json.loads((folder / BIRTH).read_text())["pid"])
    assert len(pids) <= 2 + 4  # two to begin with, and one for each of the four that were replaced

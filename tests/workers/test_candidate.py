"""``Candidate`` in this process: what a worker does with one assignment after another."""

from __future__ import annotations

from pathlib import Path

from worker_samples import drill

from workers.ending import TRACE
from workers.evaluate import Candidate


def test_steps_end_with_the_last_report(tmp_path: Path) -> None:
    worker = Candidate()
    first = worker.step(drill(tmp_path / "a", "ok").model_dump_json())
    assert first["epoch"] == 1
    reports = [first]
    while not reports[-1]["done"]:
        reports.append(worker.step())
    assert TRACE not in {path.name for path in (tmp_path / "a").iterdir()}
    assert worker.step() == {}, "a step too many does no harm"


def test_a_new_assignment_ends_the_one_before(tmp_path: Path) -> None:
    worker = Candidate()
    worker.step(drill(tmp_path / "a", "ok").model_dump_json())
    assert TRACE in {path.name for path in (tmp_path / "a").iterdir()}
    assert worker.step(drill(tmp_path / "b", "ok").model_dump_json())["epoch"] == 1
    assert TRACE not in {path.name for path in (tmp_path / "a").iterdir()}
    worker.end()
    worker.end()
    assert worker.step() == {}

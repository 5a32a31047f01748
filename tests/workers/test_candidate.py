"""``Candidate`` in this process: what a worker does with one assignment after another."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from worker_samples import drill

from workers import run
from workers.ending import FAILURE, TRACE
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


class Left(Exception):
    """Instead of the end of the process."""


def test_a_worker_whose_gpu_is_broken_says_why_and_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(status: int) -> None:
        raise Left(status)

    def ended(folder: Path) -> dict[str, object]:
        report = worker.step(drill(folder, "raise").model_dump_json())
        while not report["done"]:
            report = worker.step()
        return report

    monkeypatch.setattr("os._exit", leave)
    worker = Candidate()
    assert ended(tmp_path / "a")["failure"]["kind"] == "crash"  # type: ignore[index]
    monkeypatch.setattr(run, "gpu_is_broken", lambda: True)
    with pytest.raises(Left):
        ended(tmp_path / "b")
    assert (tmp_path / "b" / FAILURE).exists()
    assert not (tmp_path / "a" / FAILURE).exists()


def test_an_error_of_the_driver_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    assert not run.gpu_is_broken(), "there is none, or it works"
    monkeypatch.setattr("torch.cuda.is_initialized", lambda: True)
    monkeypatch.setattr("torch.cuda.synchronize", broken)
    assert run.gpu_is_broken()

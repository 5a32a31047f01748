"""``Candidate`` under a real Ray Tune with reused actors: faults hit their own candidate, the others finish."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import tune
from worker_samples import small

from workers.assignment import Failure
from workers.containment import marked_processes
from workers.ending import LOG, TRACE
from workers.evaluate import Candidate, explain_death

TRAINED = {"evaluator": "train", "dataset": {"name": "digits", "max_train": 200, "max_validation": 100}}
FAULTS: dict[int, dict[str, Any]] = {
    1: {"ending": "hang-gil"},
    2: {"ending": "segfault"},
    3: {"ending": "exit0"},
    4: {"ending": "nan"},
    5: TRAINED | {"memory_mb": 200, "architecture": small(2000, (1, 64, 64))},
    6: {"ending": "flood"},
    7: {"ending": "fork"},
    8: TRAINED,
    9: {"ending": "sys-exit0"},
}
CANDIDATES = 13
EXPECTED = {1: "timeout", 2: "crash", 3: "crash", 4: "nan", 5: "oom", 9: "crash"}


@dataclass
class Record:
    """What Tune told about each trial: its reports, and its error where it died."""

    reports: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)


class Notes(tune.Callback):  # type: ignore[misc]  # ray comes without types
    def __init__(self, record: Record) -> None:
        self.record = record

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self.record.reports.setdefault(trial.config["assignment"]["trial"], []).append(result)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.record.errors[trial.config["assignment"]["trial"]] = Path(trial.error_file).read_text()


def assignments(top: Path) -> list[dict[str, Any]]:
    """One JSON assignment a candidate; a drill of three short epochs where FAULTS says nothing else."""
    made = []
    for trial in range(CANDIDATES):
        changes = dict(FAULTS.get(trial, {}))
        ending = changes.pop("ending", "ok")
        made.append(
            {
                "search_id": top.name,
                "trial": trial,
                "architecture": small(),
                "evaluator": "drill",
                "drill": {"endings": {"default": ending}, "at_epoch": 2, "seconds_per_epoch": 0.02},
                "epochs": 3,
                "directory": str(top / "trials" / str(trial)),
                "timeout_seconds": 2.0 if ending == "hang-gil" else 60.0,
            }
            | changes
        )
    return made


@pytest.fixture(scope="session")
def top() -> Iterator[Path]:
    """A short path (Ray's sockets lie below it) that is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="nw"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def record(top: Path) -> Iterator[Record]:
    """All candidates, run once on two reused actors."""
    settings = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(top / "token"),
        "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "RAY_AIR_NEW_OUTPUT": "0",
    }
    (top / "token").write_text("t" * 64)
    (top / "token").chmod(0o600)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        patch.setenv("PYTHONPATH", paths)
        ray.init(address="local", include_dashboard=False, num_cpus=2, _temp_dir=str(top / "r"), log_to_driver=False)
        try:
            yield searched(top)
        finally:
            ray.shutdown()


def searched(top: Path) -> Record:
    record = Record()
    tune.Tuner(
        tune.with_resources(Candidate, {"cpu": 1}),
        param_space={"assignment": tune.grid_search(assignments(top))},
        tune_config=tune.TuneConfig(reuse_actors=True, trial_dirname_creator=lambda trial: trial.trial_id),
        run_config=tune.RunConfig(
            storage_path=str(top / "s"),
            callbacks=[Notes(record)],
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    ).fit()
    return record


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


def test_actors_are_reused(record: Record) -> None:
    pids = {report["pid"] for reports in record.reports.values() for report in reports}
    assert len(pids) <= 2 + 3  # two to begin with, and one for each of the three that died

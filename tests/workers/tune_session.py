"""A Ray Tune session of Candidates, run by test_candidate.py as ``python tune_session.py <folder>``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import ray
from ray import tune
from worker_samples import small

from workers.evaluate import Candidate

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


class Notes(tune.Callback):  # type: ignore[misc]  # ray comes without types
    """What Tune tells about each trial: its reports, and its error where it died."""

    def __init__(self) -> None:
        self.reports: dict[int, list[dict[str, Any]]] = {trial: [] for trial in range(CANDIDATES)}
        self.errors: dict[int, str] = {}

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        told = {name: value for name, value in result.items() if name != "config"}
        self.reports[trial.config["assignment"]["trial"]].append(told)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.errors[trial.config["assignment"]["trial"]] = Path(trial.error_file).read_text()


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


def main(top: Path) -> None:
    """Run all candidates on two reused actors and write what Tune told to ``record.json``."""
    notes = Notes()
    ray.init(address="local", include_dashboard=False, num_cpus=2, _temp_dir=str(top / "r"), log_to_driver=False)
    tune.Tuner(
        tune.with_resources(Candidate, {"cpu": 1}),
        param_space={"assignment": tune.grid_search(assignments(top))},
        tune_config=tune.TuneConfig(reuse_actors=True, trial_dirname_creator=lambda trial: trial.trial_id),
        run_config=tune.RunConfig(
            storage_path=str(top / "s"),
            callbacks=[notes],
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    ).fit()
    (top / "record.json").write_text(json.dumps({"reports": notes.reports, "errors": notes.errors}))
    ray.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""A pool of two workers with faulty candidates, run by test_pool.py as ``python pool_session.py <folder>``."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
from worker_samples import small

from nas_service.search.pool import Pool
from nas_service.search.request import ResourceSpec
from nas_service.search.source import Nothing
from workers.assignment import Assignment, Failure

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
CANDIDATES = 14
STOPPED = 12
UNWRITABLE = 13


class Listed:
    """Source of a list of assignments that writes down what it is told."""

    def __init__(self, todo: list[Assignment]) -> None:
        self._todo = todo
        self.parallel = 2
        self.reports: dict[int, list[dict[str, Any]]] = {assignment.trial: [] for assignment in todo}
        self.endings: dict[int, Any] = {}
        self.pruned: list[int] = []
        self._running = 0

    @property
    def finished(self) -> bool:
        return not self._todo and not self._running

    def next(self) -> Assignment | Nothing:
        if not self._todo:
            return Nothing.NOW if self._running else Nothing.MORE
        self._running += 1
        return self._todo.pop(0)

    def report(self, key: str, report: Mapping[str, Any]) -> bool:
        self.reports[int(key)].append(dict(report))
        if report.get("failure"):
            self.endings[int(key)] = report["failure"]
        return bool(report.get("failure"))

    def ended(self, key: str, *, pruned: bool, death: Failure | None) -> None:
        self._running -= 1
        if death is not None:
            self.endings[int(key)] = death.model_dump()
        if pruned:
            self.pruned.append(int(key))


class StopsOne:
    """Scheduler that stops one candidate after its first epoch."""

    def decides(self, epoch: int) -> bool:
        return epoch == 1

    def stops(self, key: str, report: Mapping[str, Any]) -> bool:
        return key == str(STOPPED)


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
    """Run all candidates on two workers and write what the source was told to ``record.json``."""
    (top / "trials").mkdir()
    (top / "trials" / str(UNWRITABLE)).write_text("a file where a folder should be")
    source = Listed([Assignment.model_validate(body) for body in assignments(top)])
    ray.init(address="local", include_dashboard=False, num_cpus=2, _temp_dir=str(top / "r"), log_to_driver=False)
    waits: list[str] = []
    pool = Pool(ResourceSpec(cpus=1, gpus=0), 2, waits.append)
    pool.run(source, StopsOne(), last=True)
    told = {"reports": source.reports, "endings": source.endings, "pruned": source.pruned, "waits": waits}
    (top / "record.json").write_text(json.dumps(told))
    pool.close()
    ray.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Run a source's assignments: under Ray Tune on the cluster's workers, or inline in this process, for debugging."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ray import tune
from ray.tune.result import AUTO_RESULT_KEYS
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from nas_service.search.request import SCORES, ResourceSpec, SchedulerSpec
from nas_service.search.source import Nothing, Source, assignment_key
from nas_service.strategies.protocol import Objective
from workers.assignment import Assignment
from workers.ending import explain_death
from workers.evaluate import Candidate, run

T = TypeVar("T")

QUIET = {
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a failed candidate reports no metric
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",  # Tune's own snapshots are never restored
    "TUNE_WARN_THRESHOLD_S": "30",
    "TUNE_MAX_PENDING_TRIALS_PG": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
}
"""Environment of the driver while Tune runs."""
TUNE_KEYS = frozenset(AUTO_RESULT_KEYS) | {
    "config",
    "experiment_tag",
    "trial_id",
    "date",
    "timestamp",
    "pid",
    "hostname",
    "node_ip",
}
"""What Tune adds to a report."""
ASHA_METRICS = (*SCORES, "val_loss")


def scheduler_of(
    spec: SchedulerSpec,
    objectives: Sequence[Objective],
    history: Sequence[tuple[int, Mapping[str, Any]]],
    score: str = "val_accuracy",
) -> TrialScheduler:
    """The scheduler that the request asks for; its rungs are rebuilt from ``history``, (trial, report) each.

    asha is asynchronous successive halving (Li et al. 2020, arXiv 1810.05934) on the first objective that is known at
    every epoch, on ``score`` where there is none.
    """
    if spec.name == "none":
        return FIFOScheduler()
    objective = next((o for o in objectives if o.metric in ASHA_METRICS), Objective(score, "maximize"))
    scheduler = AsyncHyperBandScheduler(
        time_attr="epoch",
        metric=objective.metric,
        mode="max" if objective.direction == "maximize" else "min",
        max_t=spec.max_epochs,
        grace_period=spec.min_epochs,
        reduction_factor=spec.reduction_factor,
    )
    known: dict[int, Named] = {}
    for number, metrics in history:
        if number not in known:
            known[number] = Named(f"past-{number}")
            scheduler.on_trial_add(None, known[number])
        scheduler.on_trial_result(None, known[number], dict(metrics))
    return scheduler


@dataclass(frozen=True)
class Named:
    """All that ASHA wants to know of a trial."""

    trial_id: str


class SourceSearcher(Searcher):  # type: ignore[misc]  # ray comes without types
    """Ray Tune's view of a source: what to run next, how it went. The source's first error ends the run."""

    def __init__(self, source: Source) -> None:
        super().__init__(metric="val_accuracy", mode="max")
        self._source = source
        self._assignments: dict[str, Assignment] = {}
        self.error: BaseException | None = None

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        found = self._guarded(self._source.next)
        if found is None or found is Nothing.MORE:
            return str(Searcher.FINISHED)
        if found is Nothing.NOW:
            return None
        self._assignments[trial_id] = found
        return {"assignment": found.model_dump(mode="json")}

    def report(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """One report of a candidate; True to stop it."""
        report = {name: value for name, value in result.items() if name not in TUNE_KEYS or name == "done"}
        return (
            self._guarded(lambda: self._source.report(assignment_key(self._assignments[trial_id]), report)) is not False
        )

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        if not error:  # deaths come with their reason through `died`
            assignment = self._assignments.pop(trial_id)
            self._guarded(lambda: self._source.ended(assignment_key(assignment), pruned=True, death=None))

    def died(self, trial_id: str, message: str) -> None:
        """The worker of a candidate died."""
        assignment = self._assignments.pop(trial_id)
        death = explain_death(Path(assignment.directory), message)
        self._guarded(lambda: self._source.ended(assignment_key(assignment), pruned=False, death=death))

    def _guarded(self, call: Callable[[], T]) -> T | None:
        """The call's answer, or None from the first error on: Tune would hide it, `run_with_tune` raises it."""
        if self.error is not None:
            return None
        try:
            return call()
        except BaseException as error:
            self.error = error
            return None

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles what it runs, to restore it one day; the database is the truth."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the database is the truth."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the database is the truth."""


class Reports(tune.Stopper):  # type: ignore[misc]  # ray comes without types
    """Hands each report to the source, and stops the candidate when the source says so."""

    def __init__(self, searcher: SourceSearcher) -> None:
        self._searcher = searcher

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return self._searcher.report(trial_id, result)

    def stop_all(self) -> bool:
        return self._searcher.error is not None


class Deaths(tune.Callback):  # type: ignore[misc]  # ray comes without types
    """Hands the error of a worker that died to the source."""

    def __init__(self, searcher: SourceSearcher) -> None:
        self._searcher = searcher

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._searcher.died(trial.trial_id, str(trial.get_error() or "the worker died"))


def run_with_tune(source: Source, scheduler: TrialScheduler, resources: ResourceSpec, folder: Path) -> None:
    """Run a source with Ray Tune: warm actors, no retries or snapshots of Tune's own. Raises what the source raised."""
    os.environ.update(QUIET)
    searcher = SourceSearcher(source)
    tuner = tune.Tuner(
        tune.with_resources(Candidate, {"cpu": resources.cpus, "gpu": resources.gpus}),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=-1,
            reuse_actors=True,
            trial_name_creator=lambda trial: trial.trial_id,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(folder),
            callbacks=[Deaths(searcher)],
            stop=Reports(searcher),
            failure_config=tune.FailureConfig(max_failures=0),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            verbose=0,
        ),
    )
    tuner.fit()
    if searcher.error is not None:
        raise searcher.error


def run_inline(source: Source, scheduler: TrialScheduler) -> None:
    """Run a source one candidate after the other in this process, without Ray: the same training, for debugging."""
    while not isinstance(assignment := source.next(), Nothing):
        key = assignment_key(assignment)
        trial = Named(f"inline-{key}")
        scheduler.on_trial_add(None, trial)
        pruned = False
        for report in run(assignment):
            if source.report(key, report) or report.get("done"):
                break
            if scheduler.on_trial_result(None, trial, dict(report)) == TrialScheduler.STOP:
                pruned = True
                break
        source.ended(key, pruned=pruned, death=None)

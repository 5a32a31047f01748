"""The last stage: the best candidates are trained again, fully, with several seeds; the best mean wins."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from nas_service.database.session import Database
from nas_service.database.tables import ArchitectureRow, Finalist, Trial
from nas_service.search.candidates import Running
from nas_service.search.ledger import Ledger
from nas_service.search.plan import Plan
from nas_service.search.ranking import best_first
from nas_service.search.same_data import rests
from nas_service.search.source import Control, Nothing, elsewhere, figures_of, weights_of
from nas_service.settings import Settings
from workers.assignment import Assignment, Failure


class Finalists:
    """Source of full trainings: the top k trials times the seeds. Rebuilt from the database like the candidates."""

    def __init__(self, plan: Plan, ledger: Ledger, database: Database, settings: Settings, control: Control) -> None:
        self._plan, self._ledger, self._database, self._settings, self._control = (
            plan,
            ledger,
            database,
            settings,
            control,
        )
        self.parallel = plan.request.resources.max_parallel
        self._running: dict[str, Running] = {}
        with database.read() as session:
            ranked = best_first(session, ledger.search_id, plan.objectives)
        chosen = [trial.number for trial in ranked[: plan.request.finalists.top_k]]
        with database.read() as session:
            begun = {
                f.number for f in session.scalars(sa.select(Finalist).where(Finalist.search_id == ledger.search_id))
            }
        if not begun:
            ledger.add_finalists([(number, seed) for number in chosen for seed in plan.request.finalists.seeds])
        with database.read() as session:
            rows = session.scalars(
                sa.select(Finalist).where(Finalist.search_id == ledger.search_id, Finalist.state == "pending")
            )
            order = {number: i for i, number in enumerate(chosen)}
            pending = sorted(rows, key=lambda f: (order.get(f.number, len(order)), f.seed))
        self._queue = [(f.number, f.seed) for f in pending]

    @property
    def finished(self) -> bool:
        return not self._running and (not self._queue or self._control.stopping.is_set())

    def next(self) -> Assignment | Nothing:
        if self._control.stopping.is_set() or not self._queue:
            return Nothing.NOW if self._running else Nothing.MORE
        if len(self._running) >= self.parallel:
            return Nothing.NOW
        number, seed = self._queue.pop(0)
        attempt = self._ledger.start_finalist(number, seed)
        self._running[f"{number}-{seed}"] = Running(attempt)
        with self._database.read() as session:
            trial = session.get_one(Trial, (self._ledger.search_id, number))
            architecture = session.get_one(ArchitectureRow, trial.fingerprint).architecture
        folder = finalist_folder(self._settings, self._ledger.search_id, number, seed)
        return self._plan.assignment(self._ledger.search_id, number, attempt, architecture, folder, seed=seed)

    def report(self, key: str, report: Mapping[str, Any]) -> bool:
        number, seed = map(int, key.split("-"))
        running = self._running[key]
        if report.get("failure"):
            running.failure = Failure.model_validate(report["failure"])
            return True
        running.weights = weights_of(report, self._settings.data_dir) or running.weights
        if report.get("epoch"):
            running.epoch = int(report["epoch"])
            self._ledger.measure_finalist(number, seed, running.epoch, figures_of(report))
        running.requeued = self._control.stopping.is_set() and not report.get("done")
        return running.requeued

    def ended(self, key: str, *, pruned: bool, death: Failure | None) -> None:
        number, seed = map(int, key.split("-"))
        running = self._running.pop(key)
        failure = running.failure or death
        if failure and rests(failure, self._ledger, self._database, self._settings, self._control):
            running.requeued, failure = True, None
        again = elsewhere(failure, death) and running.attempt < self._settings.max_attempts
        if (running.requeued and failure is None) or again:
            self._ledger.end_finalist(number, seed, "pending", paused=failure is None)
            self._queue.append((number, seed))
        elif failure or running.epoch < self._plan.final_epochs:
            failure = failure or Failure(kind="crash", message="the training ended early", traceback="")
            self._ledger.end_finalist(number, seed, "failed", failure=failure)
        else:
            self._ledger.end_finalist(number, seed, "completed", weights=running.weights)


def finalist_folder(settings: Settings, search_id: str, number: int, seed: int) -> Path:
    """Where a full training's log, checkpoint and weights lie."""
    folder = settings.searches_dir / search_id / "finalists" / f"{number}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@dataclass(frozen=True)
class Winner:
    """The network to take home, before the test split has been read."""

    trial: int
    seed: int | None
    """None: the trial's own training, where there were no finalists."""
    weights: Mapping[str, Any]
    metrics: Mapping[str, Any]
    score: str
    """The validation score that it is known by: val_accuracy, val_miou, …"""
    seeds: Mapping[str, float]
    """That score by seed."""

    def to_json(self) -> dict[str, Any]:
        values = list(self.seeds.values())
        spread = (
            {"mean": statistics.fmean(values), "sd": statistics.stdev(values) if len(values) > 1 else None}
            if values
            else {}
        )
        return {
            "trial": self.trial,
            "seed": self.seed,
            "weights": dict(self.weights),
            "metrics": dict(self.metrics),
            "seeds": dict(self.seeds),
            "score": {"metric": self.score, **spread},
            **({"val_accuracy": spread} if self.score == "val_accuracy" else {}),
        }


def choose_winner(plan: Plan, database: Database, search_id: str) -> Winner | None:
    """The best finalist by the mean of the first objective over its seeds; None where no candidate completed.

    Without finalists it is the best trial, one with weights if there is one. Among several objectives the first
    decides; the whole front stays available.
    """
    objective = plan.objectives[0]
    sign = 1.0 if objective.direction == "maximize" else -1.0
    with database.read() as session:
        rows = list(
            session.scalars(sa.select(Finalist).where(Finalist.search_id == search_id, Finalist.state == "completed"))
        )
        ranked = best_first(session, search_id, plan.objectives)
    rank = {trial.number: i for i, trial in enumerate(ranked)}
    costs, wanted = {trial.number: trial.metrics for trial in ranked}, plan.request.objectives[0]
    groups: dict[int, list[Finalist]] = {}
    for row in rows:
        groups.setdefault(row.number, []).append(row)

    def merit(number: int) -> tuple[float, int]:
        values = [wanted.value({**costs.get(number, {}), **f.metrics}) for f in groups[number]]
        known = [v for v in values if v is not None]
        return (sign * statistics.fmean(known) if known else -math.inf, -rank.get(number, 0))

    if groups:
        number = max(groups, key=merit)
        best = max(groups[number], key=lambda f: (float(f.metrics.get(plan.score) or 0.0), -f.seed))
        seeds = {str(f.seed): float(f.metrics[plan.score]) for f in groups[number] if plan.score in f.metrics}
        return Winner(number, best.seed, best.weights or {}, best.metrics, plan.score, seeds)
    trial = next((trial for trial in ranked if trial.weights), ranked[0] if ranked else None)
    if trial is None:
        return None
    score = trial.metrics.get(plan.score)
    seeds = {str(plan.request.seed): float(score)} if score is not None else {}
    return Winner(trial.number, None, trial.weights or {}, trial.metrics, plan.score, seeds)


def ensemble_of(plan: Plan, database: Database, search_id: str) -> list[tuple[Finalist, dict[str, Any]]]:
    """The best full trainings by the plan's score, as many as the request says, each with its architecture as JSON."""
    count = plan.request.finalists.ensemble
    query = sa.select(Finalist, ArchitectureRow.architecture).where(
        Finalist.search_id == search_id, Finalist.state == "completed"
    )
    query = query.join(Trial, sa.and_(Trial.search_id == Finalist.search_id, Trial.number == Finalist.number))
    query = query.join(ArchitectureRow, ArchitectureRow.fingerprint == Trial.fingerprint)
    with database.read() as session:
        rows = [(row[0], dict(row[1])) for row in session.execute(query) if row[0].weights]
    rows.sort(key=lambda row: (-float(row[0].metrics.get(plan.score) or 0.0), row[0].number, row[0].seed))
    return rows[:count]

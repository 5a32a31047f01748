"""The stages of a search: candidates, finalists, the one reading of the test split."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
import torch

from nas_service.database.session import Database
from nas_service.database.tables import ArchitectureRow, Event, Measurement, Search, Trial
from nas_service.datasets import of_search
from nas_service.errors import DataAway, LeaseLost, Unavailable
from nas_service.search.candidates import Candidates
from nas_service.search.finalists import Finalists, Winner, choose_winner, ensemble_of, finalist_folder
from nas_service.search.guessing import stored, told
from nas_service.search.inline import run_inline
from nas_service.search.ledger import Ledger
from nas_service.search.mirror import Mirror
from nas_service.search.plan import make_plan
from nas_service.search.request import SchedulerSpec, SearchRequest
from nas_service.search.same_data import look
from nas_service.search.schedulers import scheduler_of
from nas_service.search.source import Control, Source
from nas_service.settings import Settings
from workers.assignment import Failure, Member
from workers.run import scores_on_test

if TYPE_CHECKING:
    from nas_service.search.pool import Pool

log = logging.getLogger(__name__)


class Stages:
    """One search, whose lease the ledger holds, on the workers of a pool; without a pool in this process."""

    def __init__(
        self, settings: Settings, database: Database, ledger: Ledger, control: Control, pool: Pool | None
    ) -> None:
        torch.set_num_threads(1)
        self._settings, self._database, self._ledger = settings, database, ledger
        self._control, self._pool = control, pool
        self._search_id = ledger.search_id
        with database.read() as session:
            row = session.get_one(Search, self._search_id)
        request, name, self._stage = SearchRequest.model_validate(row.request), row.name, row.stage
        self._guessing = stored(row.data)
        source, info = of_search(row, database, settings)
        self._plan = make_plan(request, source, info, settings)
        self._mirror = Mirror(settings, self._search_id, name, self._plan.objectives, database)
        log.info(
            "search %s: %s on %s by %s", self._search_id, request.space["name"], info.name, request.strategy["name"]
        )

    def close(self, timeout_seconds: float = 20.0) -> None:
        """Let the mirror write what it has, at most so long."""
        self._mirror.close(timeout_seconds)

    def run(self) -> None:
        """From wherever the search stands to its end, or to its rest where it is paused."""
        worn = self._ledger.recover(self._settings.max_attempts)
        reason = self._search(worn) if self._stage == "search" else ""
        if self._stopped_by_request():
            return
        self._control.spent.clear()
        winner = self._finals()
        if self._stopped_by_request():
            return
        if winner is None:
            self._ledger.end_search("failed", "; ".join(filter(None, (reason, self._no_winner()))))
            return
        self._succeed(winner, reason)

    def _search(self, worn: Sequence[int]) -> str:
        """Train candidates until the budget is spent; why it ended before, if it did. ``worn`` trials are given up."""
        candidates = Candidates(self._plan, self._ledger, self._database, self._settings, self._control, self._mirror)
        for number in worn:
            candidates.give_up(
                number, Failure(kind="infrastructure", message="its driver died during every attempt", traceback="")
            )
        self._execute(candidates, self._plan.request.scheduler, last=not self._has_finals)
        return candidates.reason

    @property
    def _has_finals(self) -> bool:
        return self._plan.request.finalists.top_k > 0 and self._plan.request.evaluator.name == "train"

    def _finals(self) -> Winner | None:
        """Train the best candidates fully, where the request says so, and pick the winner."""
        if self._has_finals:
            self._ledger.set_stage("finalists")
            finalists = Finalists(self._plan, self._ledger, self._database, self._settings, self._control)
            self._execute(finalists, SchedulerSpec(name="none"), last=True)
        return choose_winner(self._plan, self._database, self._search_id)

    def _succeed(self, winner: Winner, reason: str) -> None:
        """Read the test split, once, with the winner's weights; then the search is over."""
        body = winner.to_json()
        if self._plan.request.evaluator.name == "train" and winner.weights:
            self._ledger.set_stage("test")
            try:
                body |= self._split(self._tested_before() or self._test_once(winner))
            except (LeaseLost, Unavailable, DataAway):
                raise
            except Exception as error:  # the winner and its weights are there: they must not be lost with the test
                log.exception("the test failed")
                look(self._ledger, self._database, self._settings)
                unread = f"the test split could not be read: {type(error).__name__}: {error}"
                reason = f"{reason}; {unread}".removeprefix("; ")
        if self._guessing and winner.score == "val_accuracy" and winner.seeds:
            mean = statistics.fmean(winner.seeds.values())
            if self._guessing.explains(mean):
                reason = f"{reason}; {told(mean, self._guessing)}".removeprefix("; ")
        self._ledger.end_search("succeeded", reason, body)

    def _split(self, figures: Mapping[str, Any]) -> dict[str, Any]:
        """Figures of the test: the winner's own, and those of the ensemble where there is one, with its members."""
        own = {name: value for name, value in figures.items() if name.startswith("test_")}
        shared = {name.removeprefix("ensemble_"): value for name, value in figures.items() if name not in own}
        if not shared:
            return {"test": own}
        members = [[f.number, f.seed] for f, _ in ensemble_of(self._plan, self._database, self._search_id)]
        return {"test": own, "ensemble": {"members": members, **shared}}

    def _tested_before(self) -> dict[str, Any] | None:
        """Figures of a reading by an earlier driver: the test split is read once."""
        with self._database.read() as session:
            query = sa.select(Event).where(Event.search_id == self._search_id, Event.kind == "test_evaluated")
            event = session.scalars(query).first()
        return {k: v for k, v in event.data.items() if k.startswith(("test_", "ensemble_"))} if event else None

    def _test_once(self, winner: Winner) -> dict[str, Any]:
        look(self._ledger, self._database, self._settings)
        seed = self._plan.request.seed if winner.seed is None else winner.seed
        figures = dict(self._test(winner, seed))
        self._ledger.record_test(winner.trial, seed, figures)
        return figures

    def _test(self, winner: Winner, seed: int) -> Mapping[str, Any]:
        with self._database.read() as session:
            trial = session.get_one(Trial, (self._search_id, winner.trial))
            architecture = session.get_one(ArchitectureRow, trial.fingerprint).architecture
        folder = finalist_folder(self._settings, self._search_id, winner.trial, winner.seed or 0)
        assignment = self._plan.assignment(self._search_id, winner.trial, 1, architecture, folder, seed=seed)
        path, sha256 = str(self._settings.data_dir / winner.weights["path"]), str(winner.weights["sha256"])
        members = [
            Member(
                architecture=each,
                weights_path=str(self._settings.data_dir / weights["path"]),
                sha256=str(weights["sha256"]),
            )
            for finalist, each in ensemble_of(self._plan, self._database, self._search_id)
            if (weights := finalist.weights)
        ]
        return (self._pool.test if self._pool else scores_on_test)(assignment, path, sha256, members)

    def _execute(self, source: Source, spec: SchedulerSpec, *, last: bool) -> None:
        scheduler = scheduler_of(spec, self._plan.objectives, self._history(), self._plan.score)
        if self._pool is None:
            run_inline(source, scheduler)
        else:
            self._pool.run(source, scheduler, last=last)

    def _history(self) -> list[tuple[int, dict[str, Any]]]:
        """Reports of trials that have ended, in the order they came: what the scheduler's rungs are rebuilt from."""
        with self._database.read() as session:
            query = (
                sa.select(Measurement)
                .join(Trial, sa.and_(Trial.search_id == Measurement.search_id, Trial.number == Measurement.number))
                .where(Measurement.search_id == self._search_id, Trial.ended_at.is_not(None))
                .where(Trial.state != "infeasible")  # stopped for a bound: what it reported was not compared
                .order_by(Measurement.at, Measurement.number)
            )
            return [(row.number, {"epoch": row.epoch, **row.metrics}) for row in session.scalars(query)]

    def _stopped_by_request(self) -> bool:
        """Whether the main loop ended because of a pause, or for want of data; then the search is put to rest."""
        if not self._control.stopping.is_set():
            return False
        self._ledger.end_search("paused", self._control.halted or "paused by request")
        return True

    def _no_winner(self) -> str:
        with self._database.read() as session:
            states = sa.select(Trial.state, Trial.failure_kind, sa.func.count()).where(
                Trial.search_id == self._search_id
            )
            counts = session.execute(states.group_by(Trial.state, Trial.failure_kind)).all()
            message = session.scalars(
                sa.select(Trial.failure_message)
                .where(Trial.search_id == self._search_id, Trial.failure_message.is_not(None))
                .limit(1)
            ).first()
        parts = ", ".join(f"{count} {state}{f' ({kind})' if kind else ''}" for state, kind, count in counts)
        return f"no candidate completed and kept the constraints: {parts or 'no trials'}" + (
            f"; for example: {message}" if message else ""
        )

"""The search stage: strategy → build → seen before? → constraints → train. The same short chain for every strategy."""

from __future__ import annotations

import contextlib
import logging
import traceback
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from nas_service.database.session import Database
from nas_service.database.tables import TRIAL_ENDED, ArchitectureRow, StrategySnapshot, Trial
from nas_service.search.ledger import Ending, Ledger
from nas_service.search.mirror import Mirror
from nas_service.search.plan import Plan, network_costs
from nas_service.search.ranking import pareto_front
from nas_service.search.same_data import rests
from nas_service.search.scoring import NO_SCORES, Scorer, Screen
from nas_service.search.source import Control, Nothing, elsewhere, figures_of, weights_of
from nas_service.settings import Settings
from nas_service.strategies.merit import feasible, turned
from nas_service.strategies.protocol import Inheriting, ObservedTrial, Proposed
from search_spaces.architecture import Architecture, Node
from search_spaces.build import Walk, walk
from search_spaces.choose import Choose, Question, Recorder, replay
from workers.assignment import Assignment, Failure, ParentWeights
from workers.scores import PREFIX

log = logging.getLogger(__name__)

FREE_PROPOSALS = 20
"""Infeasible or repeated proposals, for each trial of the budget, after which the space counts as exhausted."""
WEIGHTS_KEPT = 5
"""Trials whose weights are kept while the search runs; where children inherit, as many as can be parents."""
SNAPSHOT_EVERY = 10
"""Results between two snapshots of the strategy, at least; and at least a tenth of all, for a snapshot holds them."""
SCORED_UNTOLD = 25
"""Networks that are scored for one proposal before the search says so, and again after as many."""


class NoTime(Exception):
    """The search is to stop while scores of untrained networks are computed."""


@dataclass
class Running:
    """A candidate on a worker."""

    attempt: int
    costs: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    """Training seconds of all attempts."""
    epoch: int = 0
    metrics: dict[str, Any] = field(default_factory=dict)
    failure: Failure | None = None
    weights: dict[str, Any] | None = None
    cancelled: bool = False
    requeued: bool = False
    missed: bool = False
    """Whether it was found to miss a bound, so that nothing would come of training it on."""


class Candidates:
    """Source of the search stage. Rebuilt from the database: a new driver goes on where the last one stopped."""

    def __init__(
        self, plan: Plan, ledger: Ledger, database: Database, settings: Settings, control: Control, mirror: Mirror
    ) -> None:
        self._plan, self._ledger, self._database, self._settings = plan, ledger, database, settings
        self._control, self._mirror = control, mirror
        self.parallel = plan.request.resources.max_parallel
        self.reason = ""
        self._scorer = Scorer(settings.searches_dir / ledger.search_id / "scores.jsonl", self._tell_scored)
        self._scored = 0
        """Networks whose scores were computed for the present proposal."""
        self._proposing = False
        """Whether scores are computed for a proposal, which can be given up; a result is told to the end."""
        problem = replace(plan.problem, ask=self._asked, scores=self._scores if plan.scored else None)
        self._strategy = plan.strategy.make(plan.strategy_config, problem)
        self._screen = Screen(plan.request.screen, plan.ask, self._scorer) if plan.request.screen else None
        self._running: dict[int, Running] = {}
        self._waiting: dict[int, list[int]] = {}
        """trial → later trials of the same architecture, which take its result when it ends."""
        self._queue: list[int] = []
        self._known: dict[str, int] = {}
        """fingerprint → the trial of this search that trained it, or is about to."""
        self._questions: dict[int, tuple[Question, ...]] = {}
        self._ready: dict[int, tuple[dict[str, Any], dict[str, Any]]] = {}
        """Architecture and costs of proposals that have not started, to spare a read."""
        self._parents: dict[int, int] = {}
        """Trials that may start from the weights of an earlier one, which."""
        population = int(getattr(plan.strategy_config, "population", 0)) if plan.inherits else 0
        self._weights_kept = max(WEIGHTS_KEPT, population)
        self._dropped: list[str] = []
        self._kept: list[tuple[bool, tuple[float, ...], int, str]] = []
        """(infeasible, losses, trial, path) of the weights that are kept."""
        self._counted = self._free = self._next_number = self._observed = self._snapshot_at = 0
        self._rebuild()

    # -- rebuilding ------------------------------------------------------------------------------------------------

    def _rebuild(self) -> None:
        """Strategy, queue and counters as they were after the last recorded result."""
        search_id = self._ledger.search_id
        with self._database.read() as session:
            trials = list(session.scalars(sa.select(Trial).where(Trial.search_id == search_id).order_by(Trial.number)))
            snapshots = sa.select(StrategySnapshot).where(StrategySnapshot.search_id == search_id)
            snapshot = session.scalars(snapshots.order_by(StrategySnapshot.observed.desc())).first()
        if snapshot is not None:
            self._strategy.restore(dict(snapshot.snapshot))
            self._snapshot_at = snapshot.observed
        for trial in sorted((t for t in trials if t.observed_as), key=lambda t: t.observed_as or 0):
            if (trial.observed_as or 0) > self._snapshot_at and not self._given(trial.number):
                self._strategy.observe(_observed(trial))
            self._observed = max(self._observed, trial.observed_as or 0)
        for trial in trials:
            self._questions[trial.number] = _questions(trial.questions)
            if trial.metrics.get("parent_trial") is not None:
                self._parents[trial.number] = int(trial.metrics["parent_trial"])
            untrained = trial.state == "cancelled" or (trial.state == "infeasible" and not trial.epoch)
            if trial.fingerprint and not untrained and not trial.reused_from:
                self._known.setdefault(trial.fingerprint, trial.number)
            self._counted += trial.counted and trial.state != "cancelled"
            self._free += not trial.counted
            if trial.state == "completed" and trial.weights and not trial.reused_from:
                self._remember_weights(trial.number, trial.values, trial.violations, trial.weights["path"])
            if trial.state == "pending":
                first = self._known.get(trial.fingerprint or "", trial.number)
                if first == trial.number or self._plan.request.reuse == "none":
                    self._queue.append(trial.number)
                else:
                    self._free += 1
                    self._counted -= 1
                    self._waiting.setdefault(first, []).append(trial.number)
        self._next_number = max((t.number for t in trials), default=-1) + 1
        ended = {trial.number for trial in trials if trial.state in TRIAL_ENDED}
        for first in [number for number in self._waiting if number in ended]:
            for number in self._waiting.pop(first):
                self._copy(number, search_id, first, counted=False)
        self._scores_done()

    @property
    def finished(self) -> bool:
        enough = self._counted >= self._plan.request.budget.max_trials and not self._queue
        return not self._running and (enough or self._control.ending)

    # -- proposing -------------------------------------------------------------------------------------------------

    def next(self) -> Assignment | Nothing:
        found = self._next()
        if isinstance(found, Nothing):  # else the start was written, and with it all that was deferred
            self._ledger.flush()
            self._delete_dropped()
        return found

    def _next(self) -> Assignment | Nothing:
        if self._control.ending:
            self.reason = self.reason or ("the budget of seconds is spent" if self._control.spent.is_set() else "")
            return Nothing.NOW if self._running else Nothing.MORE
        while not self._queue:
            if len(self._running) >= self.parallel:
                return Nothing.NOW
            if self._counted >= self._plan.request.budget.max_trials:
                return Nothing.NOW if self._running else Nothing.MORE
            if self._free >= FREE_PROPOSALS * self._plan.request.budget.max_trials:
                self.reason = f"{self._free} proposals were infeasible or repeated: the space seems to hold no more"
                return Nothing.NOW if self._running else Nothing.MORE
            try:
                self._propose()
            except NoTime:
                self._scores_done()
                return self._next()  # which now tells why there is none
        return self._start(self._queue.pop(0))

    def _propose(self) -> None:
        """One proposal through the chain; it ends in the queue, or as a result that cost nothing."""
        number, self._next_number = self._next_number, self._next_number + 1
        given = self._given(number)
        running: Proposed = self._proposed
        self._proposing = True
        try:
            if given is None and self._screen:
                running = self._screen.proposal(self._strategy, number, running, self._unwanted)
            recorder = Recorder(replay({}) if given else self._strategy.propose(number, running))
        finally:
            self._proposing = False
        self._scores_done()
        if given is None and isinstance(self._strategy, Inheriting):
            parent = self._strategy.parent(number, running)
            if parent is not None:
                self._parents[number] = parent
        try:
            looked_into = walk(given or self._plan.ask(recorder))
            architecture, figures = looked_into.architecture, network_costs(looked_into)
        except Exception as error:  # a space or a block of a plug-in may raise anything
            self._record(number, recorder, None, None, {})
            self._counted += 1
            failure = Failure(
                kind="build", message=f"{type(error).__name__}: {error}", traceback=traceback.format_exc()
            )
            self._end(number, Ending("failed", failure=failure))
            return
        fingerprint = architecture.fingerprint()
        self._record(number, recorder, fingerprint, architecture.to_json(), figures)
        broken = self._plan.broken(looked_into)
        violations = self._plan.violations(figures, costs_only=True, broken=broken)
        if not feasible(violations):
            self._free += 1
            reason = self._plan.objections(figures, broken)
            self._end(number, Ending("infeasible", violations=violations, counted=False, reason=reason))
            return
        known = self._known.get(fingerprint)
        if known is not None and self._plan.request.reuse != "none":
            self._free += 1
            if known in self._running or known in self._queue:
                self._waiting.setdefault(known, []).append(number)
            else:
                self._copy(number, self._ledger.search_id, known, counted=False)
            return
        self._known.setdefault(fingerprint, number)
        self._counted += 1
        earlier = None if self._plan.inherits else self._elsewhere(fingerprint)
        if earlier:
            self._copy(number, *earlier, counted=True)
        else:
            self._ready[number] = (architecture.to_json(), figures | self._scorer.told(fingerprint))
            self._queue.append(number)

    def _asked(self, choose: Choose) -> Architecture:
        """What strategies ask. Where the space raises they get a network that cannot be built: the chain asks again
        when such answers are proposed, and records what was raised as the end of that trial."""
        try:
            return self._plan.ask(choose)
        except Exception:  # a space of a plug-in may raise anything
            return Architecture(self._plan.task, (Node("none: the space raised", (0,)),))

    def _scores(self, architecture: Architecture) -> Mapping[str, float]:
        """What strategies are told; nothing of a network that would not be trained, whatever it promises."""
        try:
            kept = self._kept_bounds(walk(architecture))
        except Exception:  # a block of a plug-in may raise anything
            kept = False
        return self._scorer(architecture) if kept else NO_SCORES

    def _scores_done(self) -> None:
        if self._scored >= SCORED_UNTOLD:
            self._ledger.set_reason("")
        self._scored = 0

    def _tell_scored(self) -> None:
        """Hundreds of networks take a strategy minutes, in which nothing else happens: say so."""
        self._scored += 1
        if self._proposing and self._control.ending:
            raise NoTime
        if self._scored % SCORED_UNTOLD == 0:
            self._ledger.set_reason(f"computes zero-cost scores of untrained networks: {self._scored} so far")

    def _unwanted(self, architecture: Architecture) -> bool:
        """Whether an architecture would not be trained: known already, or it breaks a bound or rule. ArchitectureError
        where it cannot be built."""
        if self._plan.request.reuse != "none" and architecture.fingerprint() in self._known:
            return True
        return not self._kept_bounds(walk(architecture))

    def _kept_bounds(self, looked_into: Walk) -> bool:
        """Whether a network keeps the bounds of its costs and the rules."""
        figures, broken = network_costs(looked_into), self._plan.broken(looked_into)
        return feasible(self._plan.violations(figures, costs_only=True, broken=broken))

    @property
    def _proposed(self) -> dict[int, tuple[Question, ...]]:
        """Trials of the strategy that have not ended, by number: they run, or wait for a worker or for one of these."""
        open_trials = {*self._running, *self._queue}.union(*self._waiting.values())
        return {n: self._questions[n] for n in sorted(open_trials) if self._given(n) is None}

    def _given(self, number: int) -> Architecture | None:
        """The network that the request gives for a trial: no decision led to it, so no strategy learns from it."""
        return self._plan.first[number] if number < len(self._plan.first) else None

    def _record(
        self,
        number: int,
        recorder: Recorder,
        fingerprint: str | None,
        architecture: dict[str, Any] | None,
        figures: dict[str, Any],
    ) -> None:
        questions = tuple(recorder.questions)
        self._questions[number] = questions
        self._ledger.add_trial(
            number,
            [[q.name, list(q.options), q.answer] for q in questions],
            fingerprint=fingerprint,
            evaluation_key=self._plan.evaluation_key(fingerprint) if fingerprint else None,
            architecture=architecture,
            costs=figures,
            scores=self._scorer.told(fingerprint) if fingerprint else None,
            parent=self._parents.get(number),
        )

    def _elsewhere(self, fingerprint: str) -> tuple[str, int] | None:
        """An earlier search's completed training of exactly this architecture, data, recipe, length and seed.

        Where latency is asked for, one on the device that this search trains on; so none before it has a result. A
        replay takes what the search that it repeats took from others, and nothing else.
        """
        if self._plan.request.replays:
            return self._taken_by(self._plan.request.replays, fingerprint)
        if self._plan.request.reuse != "all":
            return None
        search_id, device = self._ledger.search_id, Trial.metrics["device"].as_string()
        trained = (Trial.state == "completed", Trial.reused_from.is_(None))
        earlier = (
            sa.select(Trial.search_id, Trial.number)
            .where(Trial.evaluation_key == self._plan.evaluation_key(fingerprint), Trial.search_id != search_id)
            .where(*trained)
            .order_by(Trial.search_id, Trial.number)
            .limit(1)
        )
        own = sa.select(device).where(Trial.search_id == search_id, *trained).order_by(Trial.observed_as.desc())
        latency = self._plan.request.latency_batch is not None
        if latency:
            self._ledger.flush()
        with self._database.read() as session:
            if latency:
                latest = session.execute(own.limit(1)).first()
                if latest is None:
                    return None
                earlier = earlier.where(device == latest[0])
            row = session.execute(earlier).first()
        return (str(row[0]), int(row[1])) if row else None

    def _taken_by(self, search_id: str, fingerprint: str) -> tuple[str, int] | None:
        """The training whose result that search took from another one for this architecture, if it is still there."""
        taken = sa.select(Trial.reused_from).where(
            Trial.search_id == search_id, Trial.fingerprint == fingerprint, Trial.reused_from.is_not(None)
        )
        with self._database.read() as session:
            for source, number in session.scalars(taken.order_by(Trial.number)):
                if source != search_id and session.get(Trial, (source, number)) is not None:
                    return str(source), int(number)
        return None

    def _copy(self, number: int, search_id: str, other: int, *, counted: bool) -> None:
        """Give a trial the recorded result of another of the same architecture."""
        self._ledger.flush()
        with self._database.read() as session:
            trial = session.get_one(Trial, (search_id, other))
        failure = None
        if trial.failure_kind:
            failure = Failure.model_validate(
                {
                    "kind": trial.failure_kind,
                    "message": trial.failure_message or "",
                    "traceback": trial.failure_traceback or "",
                }
            )
        scores = self._scorer.told(str(trial.fingerprint))
        metrics = {name: value for name, value in trial.metrics.items() if not name.startswith(PREFIX)} | scores
        ending = Ending(
            trial.state,
            metrics=metrics,
            values=self._plan.values(metrics) if trial.state in ("completed", "pruned") else None,
            violations=self._plan.violations(metrics),
            failure=failure,
            reused_from=(search_id, other),
            counted=counted,
            epoch=trial.epoch,
            reason=(trial.failure_message or "") if trial.state == "infeasible" else "",
        )
        self._end(number, ending, epoch=trial.epoch)

    def _start(self, number: int) -> Assignment:
        attempt = self._ledger.start_trial(number)
        self._delete_dropped()
        if number in self._ready:
            architecture, costs = self._ready.pop(number)
            seconds = 0.0
        else:
            with self._database.read() as session:
                trial = session.get_one(Trial, (self._ledger.search_id, number))
                row = session.get_one(ArchitectureRow, trial.fingerprint)
                costs = dict(row.costs) | self._scorer.told(row.fingerprint)
                architecture, seconds = row.architecture, trial.train_seconds
        self._running[number] = Running(attempt, costs, seconds)
        self._mirror.started(number, self._questions[number])
        return self._plan.assignment(
            self._ledger.search_id,
            number,
            attempt,
            architecture,
            self.folder(number),
            parent=self._parent_weights(self._parents.get(number)),
            decisions={question.name: question.answer for question in self._questions[number]},
        )

    def _parent_weights(self, number: int | None) -> ParentWeights | None:
        """Weights of an earlier trial of this search, where they are still kept."""
        if number is None:
            return None
        with self._database.read() as session:
            trial = session.get_one(Trial, (self._ledger.search_id, number))
            if trial.reused_from and trial.reused_from[0] == self._ledger.search_id:
                trial = session.get_one(Trial, (self._ledger.search_id, trial.reused_from[1]))
            if trial.weights is None:
                return None
            row = session.get_one(ArchitectureRow, trial.fingerprint)
            path = str(self._settings.data_dir / trial.weights["path"])
            return ParentWeights(
                trial=trial.number, architecture=row.architecture, path=path, sha256=trial.weights["sha256"]
            )

    def folder(self, number: int) -> Path:
        """Where a trial's log, checkpoint and weights lie."""
        folder = self._settings.searches_dir / self._ledger.search_id / "trials" / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    # -- results ---------------------------------------------------------------------------------------------------

    def report(self, key: str, report: Mapping[str, Any]) -> bool:
        number = int(key)
        running = self._running[number]
        if report.get("failure"):
            running.failure = Failure.model_validate(report["failure"])
            return True
        metrics = figures_of(report)
        running.metrics.update(metrics)
        running.weights = weights_of(report, self._settings.data_dir) or running.weights
        if report.get("epoch"):
            replayed = bool(report.get("replayed"))
            running.epoch = int(report["epoch"])
            running.seconds += 0.0 if replayed else float(metrics.get("seconds") or 0.0)
            self._ledger.measure(number, running.epoch, running.attempt, metrics, replayed=replayed)
            self._mirror.epoch(number, running.epoch, metrics)
        if report.get("done"):
            return False
        running.requeued = self._control.stopping.is_set()
        running.cancelled = self._control.spent.is_set()
        running.missed = not feasible(self._plan.violations({**running.costs, **running.metrics}))
        return running.requeued or running.cancelled or running.missed

    def ended(self, key: str, *, pruned: bool, death: Failure | None) -> None:
        number = int(key)
        running = self._running.pop(number)
        failure = running.failure or death
        if failure and rests(failure, self._ledger, self._database, self._settings, self._control):
            running.requeued, failure = True, None
        complete = running.epoch >= self._plan.request.scheduler.max_epochs
        if running.requeued and not complete and failure is None:
            self._ledger.requeue_trial(number, self._control.halted or "the search was paused", paused=True)
            self._queue.append(number)
            return
        if failure and elsewhere(failure, death) and running.attempt < self._settings.max_attempts:
            self._ledger.requeue_trial(number, f"attempt {running.attempt} ended: {failure.message}")
            self._queue.append(number)
            return
        if running.cancelled and not complete and failure is None:
            self._end(number, Ending("cancelled", counted=False))
            return
        if failure is None and running.epoch == 0:
            failure = Failure(kind="crash", message="the candidate ended without a single report", traceback="")
        metrics = {**running.costs, **running.metrics, "train_seconds": running.seconds}
        if failure:
            state = "failed"
        elif running.missed and not complete:
            state = "infeasible"
        else:
            state = "completed" if complete or not pruned else "pruned"
        ending = Ending(
            state,
            metrics=metrics,
            values=self._plan.values(metrics) if state in ("completed", "pruned") else None,
            violations=self._plan.violations(metrics),
            failure=failure,
            weights=running.weights if state == "completed" else None,
            reason=self._plan.objections(metrics, ()) if state == "infeasible" else "",
        )
        self._end(number, ending, epoch=running.epoch)
        if ending.weights:
            self._remember_weights(number, ending.values, ending.violations, ending.weights["path"])
            self._drop_weights()

    def give_up(self, number: int, failure: Failure) -> None:
        """A trial that took its driver down once too often."""
        self._end(number, Ending("failed", failure=failure))

    def _end(self, number: int, ending: Ending, epoch: int | None = None) -> None:
        """Tell the strategy, record the result with what the strategy made of it, then serve whoever waited for it."""
        figures = snapshot = None
        if ending.state != "cancelled":
            trial = ObservedTrial(
                number=number,
                questions=self._questions[number],
                state=ending.state,  # type: ignore[arg-type]  # cancelled is handled above
                values=tuple(ending.values) if ending.values else None,
                epoch=epoch,
                violations=tuple(ending.violations or ()),
                reused=_reused(ending.reused_from, self._ledger.search_id),
            )
            figures = None if self._given(number) else self._strategy.observe(trial)
            self._observed += 1
            if self._observed - self._snapshot_at >= max(SNAPSHOT_EVERY, self._observed // 10):
                snapshot, self._snapshot_at = deepcopy(self._strategy.snapshot()), self._observed
        self._ledger.end_trial(number, ending, figures, snapshot)
        self._mirror.ended(number, self._questions[number], ending)
        for waiting in self._waiting.pop(number, []):
            self._copy(waiting, self._ledger.search_id, number, counted=False)

    def _remember_weights(
        self, number: int, values: list[float] | None, violations: list[float] | None, path: str
    ) -> None:
        self._kept.append(
            (not feasible(violations), turned(values or (), self._plan.objectives) if values else (), number, path)
        )

    def _drop_weights(self) -> None:
        """Delete weights until those of the best are left: non-dominated first, then by the first objective."""
        while len(self._kept) > self._weights_kept:
            front = set(pareto_front([kept[1] for kept in self._kept]))
            worst = max(range(len(self._kept)), key=lambda i: (self._kept[i][0], i not in front, self._kept[i][1:3]))
            _, _, number, path = self._kept.pop(worst)
            self._ledger.forget_weights(number)
            self._dropped.append(path)

    def _delete_dropped(self) -> None:
        """Delete files that no row names any more: only after the rows are written."""
        while self._dropped:
            with contextlib.suppress(FileNotFoundError):
                (self._settings.data_dir / self._dropped.pop()).unlink()


def _questions(stored: list[Any]) -> tuple[Question, ...]:
    return tuple(Question(name, tuple(options), answer) for name, options, answer in stored)


def _reused(source: Sequence[Any] | None, search_id: str) -> bool:
    """Whether a result is that of an earlier trial of the same search: another search's is new to the strategy."""
    return source is not None and source[0] == search_id


def _observed(trial: Trial) -> ObservedTrial:
    return ObservedTrial(
        number=trial.number,
        questions=_questions(trial.questions),
        state=trial.state,  # type: ignore[arg-type]  # only observed states carry observed_as
        values=tuple(trial.values) if trial.values else None,
        epoch=trial.epoch,
        violations=tuple(trial.violations or ()),
        reused=_reused(trial.reused_from, trial.search_id),
    )

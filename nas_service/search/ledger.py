"""A driver's hand on the database: every write renews the lease and is refused once another driver has taken over."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.orm import Session

from nas_service.database.session import Database
from nas_service.database.tables import (
    SEARCH_ENDED,
    TRIAL_ENDED,
    ArchitectureRow,
    Finalist,
    Measurement,
    Search,
    StrategySnapshot,
    StrategyUpdate,
    Trial,
)
from nas_service.errors import LeaseLost
from nas_service.search.epochs import Epochs, Reported
from nas_service.search.events import append_event, clean, finish, finite
from workers.assignment import Failure

T = TypeVar("T")
SNAPSHOTS_KEPT = 2
STARTING = "starting:"
"""Owner of a search whose driver is on its way, before the driver's name."""
DEFER_SECONDS = 0.5
"""How long an epoch's report may wait for company before it is written."""


@dataclass(frozen=True)
class Ending:
    """How a trial ended: its state, what was measured, why it failed."""

    state: str
    metrics: Mapping[str, Any] = field(default_factory=dict)
    values: list[float] | None = None
    violations: list[float] | None = None
    failure: Failure | None = None
    weights: Mapping[str, Any] | None = None
    reused_from: tuple[str, int] | None = None
    counted: bool | None = None
    reason: str = ""
    """Why an infeasible one is not trained, or not to its end."""
    epoch: int | None = None
    """Epoch of a result that was taken from another trial."""


class Ledger:
    """Writes of one driver for one search. Raises LeaseLost when the search has a newer driver."""

    def __init__(self, database: Database, search_id: str, owner: str, lease_seconds: float) -> None:
        self._database = database
        self.search_id = search_id
        self._owner = owner
        self._lease_seconds = lease_seconds
        self.epoch = -1
        self.ended = False
        """Whether this driver has ended its search, or put it to rest: nothing more is written."""
        self._beat_at = time.monotonic()
        self._deferred: list[Callable[[Session], object]] = []
        self._deferred_since = 0.0
        self._lock = threading.RLock()

    def claim(self) -> str:
        """Take the search; its state. Raises LeaseLost where another driver is alive or the search has ended."""

        def work(session: Session) -> tuple[int, str]:
            now = self._database.now(session)
            row = session.execute(
                sa.update(Search)
                .where(Search.id == self.search_id, Search.state.not_in([*SEARCH_ENDED, "paused"]))
                .where(
                    sa.or_(
                        Search.lease_until.is_(None),
                        Search.lease_until < now,
                        Search.owner.startswith(STARTING),
                    )
                )
                .values(owner=self._owner, epoch=Search.epoch + 1, lease_until=now + self._lease_seconds)
                .returning(Search.epoch, Search.state)
            ).one_or_none()
            if row is None:
                raise LeaseLost(f"search {self.search_id} has a driver already, or has ended")
            state = row.state
            if state == "queued":
                state = "running"
                session.execute(
                    sa.update(Search)
                    .where(Search.id == self.search_id)
                    .values(state=state, reason="", started_at=sa.func.coalesce(Search.started_at, time.time()))
                )
            else:
                session.execute(sa.update(Search).where(Search.id == self.search_id).values(reason=""))
            append_event(session, self.search_id, "driver_started", {"epoch": row.epoch, "owner": self._owner})
            return int(row.epoch), str(state)

        self.epoch, state = self._database.write(work)
        self._beat_at = time.monotonic()
        return state

    def write(self, work: Callable[[Session], T]) -> T:
        """One fenced transaction: renews the lease, then does ``work``."""

        with self._lock:
            deferred = list(self._deferred)

            def fenced(session: Session) -> T:
                self._renew(session)
                for earlier in deferred:
                    earlier(session)
                return work(session)

            done = self._database.write(fenced, patience_seconds=60)
            del self._deferred[: len(deferred)]
        return done

    def defer(self, work: Callable[[Session], object]) -> None:
        """Do ``work`` with the next transaction, at most about DEFER_SECONDS later.

        For what may be lost with the driver: epochs, which a candidate reports again from its checkpoint, and proposals
        that have not started. A transaction costs milliseconds that candidates of a second would feel.
        """
        with self._lock:
            if not self._deferred:
                self._deferred_since = time.monotonic()
            self._deferred.append(work)
            self._write_if_late()

    def _write_if_late(self) -> None:
        if time.monotonic() - self._deferred_since > DEFER_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what was deferred."""
        if self._deferred:
            self.write(lambda session: None)

    def _renew(self, session: Session) -> None:
        changed = session.execute(
            sa.update(Search)
            .where(Search.id == self.search_id, Search.epoch == self.epoch, Search.owner == self._owner)
            .values(lease_until=self._database.now(session) + self._lease_seconds)
            .returning(Search.id)
        ).one_or_none()
        if changed is None:
            raise LeaseLost(f"search {self.search_id} has ended, rests, or was taken over from epoch {self.epoch}")

    def beat(self, *, counts: bool = True) -> tuple[str, float]:
        """Renew the lease and count the time, unless it was spent waiting; (state of the search, seconds used)."""
        now = time.monotonic()
        elapsed, self._beat_at = (now - self._beat_at if counts else 0.0), now

        def work(session: Session) -> tuple[str, float]:
            row = session.execute(
                sa.update(Search)
                .where(Search.id == self.search_id)
                .values(used_seconds=Search.used_seconds + elapsed)
                .returning(Search.state, Search.used_seconds)
            ).one()
            return str(row.state), float(row.used_seconds)

        return self.write(work)

    def recover(self, max_attempts: int) -> list[int]:
        """Put what ran when the last driver died back into the queue; numbers of trials that had too many attempts."""

        def work(session: Session) -> list[int]:
            worn = []
            for trial in session.scalars(
                sa.select(Trial).where(Trial.search_id == self.search_id, Trial.state == "running")
            ):
                if trial.attempt >= max_attempts and not self._moved_on(session, trial):
                    worn.append(trial.number)
                else:
                    trial.state = "pending"
                    append_event(
                        session, self.search_id, "trial_requeued", {"trial": trial.number, "reason": "its driver ended"}
                    )
            for finalist in session.scalars(
                sa.select(Finalist).where(Finalist.search_id == self.search_id, Finalist.state == "running")
            ):
                if finalist.attempt < max_attempts or finalist.epoch:
                    finalist.state = "pending"
                    continue
                finalist.state, finalist.failure_kind = "failed", "infrastructure"
                finalist.failure_message = f"its driver died during each of {finalist.attempt} attempts"
                where = {"trial": finalist.number, "seed": finalist.seed}
                append_event(session, self.search_id, "finalist_failed", where)
            return worn

        return self.write(work)

    def _moved_on(self, session: Session, trial: Trial) -> bool:
        """Whether the present attempt has reported an epoch: then the trial is not what kills its driver."""
        query = sa.select(Measurement.epoch).where(
            Measurement.search_id == trial.search_id,
            Measurement.number == trial.number,
            Measurement.attempt == trial.attempt,
        )
        return session.scalars(query.limit(1)).first() is not None

    def add_trial(
        self,
        number: int,
        questions: list[Any],
        *,
        fingerprint: str | None = None,
        evaluation_key: str | None = None,
        architecture: Mapping[str, Any] | None = None,
        costs: Mapping[str, Any] | None = None,
        scores: Mapping[str, float] | None = None,
        parent: int | None = None,
    ) -> None:
        """Record a proposal as pending; deferred to the transaction that starts it or records its result."""

        def work(session: Session) -> None:
            if fingerprint and not session.get(ArchitectureRow, fingerprint):
                insert = _insert(session)(ArchitectureRow).values(
                    fingerprint=fingerprint, architecture=architecture, costs=dict(costs or {}), created_at=time.time()
                )
                session.execute(insert.on_conflict_do_nothing())
            if session.get(Trial, (self.search_id, number)):
                return
            session.add(
                Trial(
                    search_id=self.search_id,
                    number=number,
                    state="pending",
                    fingerprint=fingerprint,
                    evaluation_key=evaluation_key,
                    questions=questions,
                    metrics=dict(costs or {})
                    | dict(scores or {})
                    | ({} if parent is None else {"parent_trial": parent}),
                    created_at=time.time(),
                )
            )
            session.flush()
            append_event(session, self.search_id, "trial_proposed", {"trial": number, "fingerprint": fingerprint})

        self.defer(work)

    def start_trial(self, number: int) -> int:
        """pending → running; the attempt's number, from 1."""

        def work(session: Session) -> int:
            trial = session.get_one(Trial, (self.search_id, number))
            if trial.state != "pending":
                raise LeaseLost(f"trial {number} is {trial.state}, not pending")
            trial.state, trial.attempt, trial.started_at = "running", trial.attempt + 1, trial.started_at or time.time()
            append_event(session, self.search_id, "trial_started", {"trial": number, "attempt": trial.attempt})
            return trial.attempt

        return self.write(work)

    def requeue_trial(self, number: int, reason: str, *, paused: bool = False) -> None:
        """running → pending: it continues from its checkpoint later. A pause is not held against it as an attempt."""

        def work(session: Session) -> None:
            trial = session.get_one(Trial, (self.search_id, number))
            if trial.state == "running":
                trial.state = "pending"
                trial.attempt -= paused
                append_event(session, self.search_id, "trial_requeued", {"trial": number, "reason": reason})

        self.write(work)

    def measure(
        self, number: int, epoch: int, attempt: int, metrics: Mapping[str, Any], *, replayed: bool = False
    ) -> None:
        """Record what one epoch reported; ``replayed`` epochs, from a checkpoint, only where they are missing."""
        report = Reported(number, epoch, attempt, finite(metrics), replayed, time.time())
        with self._lock:
            last = self._deferred[-1] if self._deferred else None
            if isinstance(last, Epochs):
                last.reports.append(report)
                self._write_if_late()
            else:
                self.defer(Epochs(self.search_id, [report]))

    def end_trial(
        self, number: int, ending: Ending, observed: Mapping[str, Any] | None, snapshot: Mapping[str, Any] | None
    ) -> None:
        """Record how a trial ended and what the strategy made of it, in one transaction; nothing if it had ended.

        Deferred, to be written together with the start of the next trial: whoever needs it written calls ``flush``.
        """
        ended_at = time.time()

        def work(session: Session) -> None:
            trial = session.get_one(Trial, (self.search_id, number))
            if trial.state in TRIAL_ENDED:
                return
            trial.state, trial.ended_at = ending.state, ended_at
            trial.metrics = {**trial.metrics, **finite(ending.metrics)}
            trial.values, trial.violations = ending.values, ending.violations
            trial.weights = dict(ending.weights) if ending.weights else None
            trial.counted = trial.counted if ending.counted is None else ending.counted
            trial.reused_from = list(ending.reused_from) if ending.reused_from else None
            trial.epoch = trial.epoch if ending.epoch is None else ending.epoch
            if ending.reason:
                trial.failure_message = clean(ending.reason)
            if ending.failure:
                trial.failure_kind, trial.failure_message = ending.failure.kind, clean(ending.failure.message)
                trial.failure_traceback = clean(ending.failure.traceback)
            if ending.state != "cancelled":
                self._observe(session, trial, observed, snapshot)
            append_event(
                session,
                self.search_id,
                f"trial_{ending.state}",
                {
                    "trial": number,
                    "values": ending.values,
                    "failure": ending.failure.kind if ending.failure else None,
                    **({"reason": ending.reason} if ending.reason else {}),
                },
            )

        self.defer(work)

    def _observe(
        self, session: Session, trial: Trial, figures: Mapping[str, Any] | None, snapshot: Mapping[str, Any] | None
    ) -> None:
        order = session.execute(
            sa.update(Search)
            .where(Search.id == self.search_id)
            .values(observed=Search.observed + 1, restarts=0)
            .returning(Search.observed)
        ).scalar_one()
        trial.observed_as = order
        if figures is not None:
            session.add(
                StrategyUpdate(
                    search_id=self.search_id, number=trial.number, observed_as=order, figures=finite(figures)
                )
            )
        if snapshot is not None:
            session.add(StrategySnapshot(search_id=self.search_id, observed=order, snapshot=dict(snapshot)))
            old = sa.select(StrategySnapshot.observed).where(StrategySnapshot.search_id == self.search_id)
            keep = old.order_by(StrategySnapshot.observed.desc()).limit(SNAPSHOTS_KEPT)
            session.flush()
            kept = list(session.scalars(keep))
            session.execute(
                sa.delete(StrategySnapshot).where(
                    StrategySnapshot.search_id == self.search_id, StrategySnapshot.observed.not_in(kept)
                )
            )

    def forget_weights(self, number: int) -> None:
        """The weights of a trial are about to be deleted."""

        def work(session: Session) -> None:
            session.get_one(Trial, (self.search_id, number)).weights = None

        self.defer(work)

    def add_finalists(self, runs: Sequence[tuple[int, int]]) -> None:
        """Record the full trainings to come, (trial, seed) each; those that are known stay as they are."""

        def work(session: Session) -> None:
            for number, seed in runs:
                if not session.get(Finalist, (self.search_id, number, seed)):
                    session.add(
                        Finalist(
                            search_id=self.search_id, number=number, seed=seed, state="pending", metrics={}, curve=[]
                        )
                    )

        self.write(work)

    def start_finalist(self, number: int, seed: int) -> int:
        """pending → running; the attempt's number, from 1."""

        def work(session: Session) -> int:
            finalist = session.get_one(Finalist, (self.search_id, number, seed))
            finalist.state, finalist.attempt = "running", finalist.attempt + 1
            append_event(session, self.search_id, "finalist_started", {"trial": number, "seed": seed})
            return finalist.attempt

        return self.write(work)

    def measure_finalist(self, number: int, seed: int, epoch: int, metrics: Mapping[str, Any]) -> None:
        """Record what one epoch of a full training reported."""

        figures = finite(metrics)

        def work(session: Session) -> None:
            finalist = session.get_one(Finalist, (self.search_id, number, seed))
            finalist.epoch, finalist.metrics = epoch, {**finalist.metrics, **figures}
            finalist.curve = [*(p for p in finalist.curve if p["epoch"] < epoch), {"epoch": epoch, **figures}]
            append_event(
                session, self.search_id, "finalist_epoch", {"trial": number, "seed": seed, "epoch": epoch, **figures}
            )

        self.defer(work)

    def end_finalist(
        self,
        number: int,
        seed: int,
        state: str,
        weights: Mapping[str, Any] | None = None,
        failure: Failure | None = None,
        paused: bool = False,
    ) -> None:
        """Record how a full training ended; ``pending`` puts it back; no attempt if ``paused``."""

        def work(session: Session) -> None:
            finalist = session.get_one(Finalist, (self.search_id, number, seed))
            finalist.state = state
            finalist.attempt -= paused
            finalist.weights = dict(weights) if weights else None
            if weights:  # the kept weights are those of the best epoch, so its figures are the finalist's
                best: dict[str, Any] = next(
                    (point for point in finalist.curve if point["epoch"] == weights["epoch"]), {}
                )
                finalist.metrics = {**finalist.metrics, **{k: v for k, v in best.items() if k != "epoch"}}
            if failure:
                finalist.failure_kind, finalist.failure_message = failure.kind, clean(failure.message)
                finalist.failure_traceback = clean(failure.traceback)
            append_event(session, self.search_id, f"finalist_{state}", {"trial": number, "seed": seed})

        self.write(work)

    def record_test(self, number: int, seed: int, figures: Mapping[str, Any]) -> None:
        """The one reading of the test split."""
        self.write(
            lambda session: append_event(
                session, self.search_id, "test_evaluated", {"trial": number, "seed": seed, **figures}
            )
        )

    def end_search(self, state: str, reason: str, winner: Mapping[str, Any] | None = None) -> None:
        """End or pause the search and give the lease back; unless it is paused, unfinished trials are cancelled.

        Nothing where this driver has done so already.
        """
        if self.ended:
            return

        def work(session: Session) -> None:
            finish(session, self.search_id, state, reason, winner)

        self.beat()
        self.write(work)
        self.ended = True

    def set_reason(self, reason: str) -> None:
        """Say what the search waits for."""

        def work(session: Session) -> None:
            search = session.get_one(Search, self.search_id)
            if search.reason != reason:
                search.reason = reason
                append_event(session, self.search_id, "reason", {"reason": reason})

        self.write(work)

    def set_stage(self, stage: str) -> None:
        """search → finalists → test."""

        def work(session: Session) -> None:
            session.execute(sa.update(Search).where(Search.id == self.search_id).values(stage=stage))
            append_event(session, self.search_id, "stage", {"stage": stage})

        self.write(work)


def _insert(session: Session) -> Any:
    from sqlalchemy.dialects import postgresql, sqlite

    return sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert

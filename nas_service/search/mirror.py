"""A copy of the search in Optuna's own storage, for Optuna's dashboard.

Written by a thread, never read by samplers, rebuilt at will.
"""

from __future__ import annotations

import datetime
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.orm import Session

from nas_service.database.session import Database
from nas_service.database.tables import Measurement, Trial
from nas_service.search.ledger import Ending
from nas_service.settings import Settings
from nas_service.strategies.protocol import Objective
from search_spaces.choose import Question

log = logging.getLogger(__name__)

CONSTRAINTS = "constraints"
"""System attribute that Optuna's dashboard 0.21 reads violations from."""
STATES = {
    "completed": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "infeasible": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    "cancelled": TrialState.FAIL,
}
NUMBER = "nas:trial"
EVERY_SECONDS = 2.0
SHARE_OF_TIME = 0.05
"""Of the driver's time, at most, goes into the mirror: an insert takes Optuna's storage 15 to 60 ms."""


def mirror_url(settings: Settings) -> sa.URL:
    """Optuna's storage, apart from ours, for table names clash: a schema in PostgreSQL, or a second SQLite file."""
    url = Database(settings.url).url
    if url.get_backend_name() == "sqlite":
        return url.set(database=str(settings.data_dir / "optuna.db"))
    return url.update_query_dict({"options": "-csearch_path=optuna"})


def mirror_storage(settings: Settings) -> optuna.storages.RDBStorage:
    """Optuna's storage, made where it is missing. WAL and synchronous=NORMAL: it can be rebuilt, so it may be fast."""
    url = mirror_url(settings)
    if url.get_backend_name() == "sqlite":
        with sa.create_engine(url).connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        engine_options: dict[str, Any] = {"connect_args": {"timeout": 20}}
    else:
        main = Database(settings.url)
        with main.engine.begin() as connection:
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(7234930)"))
            connection.execute(sa.text("CREATE SCHEMA IF NOT EXISTS optuna"))
        main.close()
        engine_options = {"pool_pre_ping": True}
    storage = optuna.storages.RDBStorage(url.render_as_string(hide_password=False), engine_kwargs=engine_options)
    if url.get_backend_name() == "sqlite":
        sa.event.listen(
            storage.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=NORMAL")
        )
        storage.engine.dispose()
    return storage


@dataclass
class Copy:
    """What the mirror knows of one trial, and how much of it Optuna's storage has."""

    questions: tuple[Question, ...]
    epochs: dict[int, float] = field(default_factory=dict)
    ending: Ending | None = None
    trial_id: int | None = None
    sent: int = 0
    """Epochs that are written."""


class Mirror:
    """Copies trials as they go on. A mirror that fails says so in the log and is switched off: the search goes on.

    Written every EVERY_SECONDS: a trial that came and went in between is one insert, so that short candidates do not
    pay for a row an epoch.
    """

    def __init__(
        self, settings: Settings, search_id: str, name: str, objectives: Sequence[Objective], database: Database
    ) -> None:
        self._settings, self._search_id, self._objectives, self._database = settings, search_id, objectives, database
        self._study_name = f"{name} ({search_id})"
        self._lock = threading.Lock()
        self._copies: dict[int, Copy] = {}
        """Trials with something to write, by our number."""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="optuna-mirror", daemon=True)
        self._thread.start()

    def epoch(self, number: int, epoch: int, metrics: Mapping[str, Any]) -> None:
        """One epoch was reported."""
        value = metrics.get(self._objectives[0].metric, metrics.get("val_accuracy"))
        with self._lock:
            if value is not None and len(self._objectives) == 1 and number in self._copies:
                self._copies[number].epochs[epoch] = float(value)

    def started(self, number: int, questions: Sequence[Question]) -> None:
        """A trial runs."""
        with self._lock:
            self._copies.setdefault(number, Copy(tuple(questions)))

    def ended(self, number: int, questions: Sequence[Question], ending: Ending) -> None:
        """A trial ended."""
        with self._lock:
            self._copies.setdefault(number, Copy(tuple(questions))).ending = ending

    def close(self, timeout_seconds: float = 20.0) -> None:
        """Write what is left, at most so long."""
        self._closing.set()
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        try:
            self._storage = mirror_storage(self._settings)
            self._open()
            pause = EVERY_SECONDS
            while not self._closing.wait(pause):
                started = time.monotonic()
                self._write()
                pause = max(EVERY_SECONDS, (time.monotonic() - started) / SHARE_OF_TIME)
            self._write()
        except Exception:
            log.exception("Optuna's mirror of search %s is switched off; the search itself goes on", self._search_id)

    def _open(self) -> None:
        """Find or make the study, and copy what it lacks: trials that ended while no mirror was running."""
        directions = [
            StudyDirection.MAXIMIZE if o.direction == "maximize" else StudyDirection.MINIMIZE for o in self._objectives
        ]
        try:
            self._study = self._storage.get_study_id_from_name(self._study_name)
        except KeyError:
            self._study = self._storage.create_new_study(directions, self._study_name)
            self._storage.set_study_user_attr(self._study, "search", self._search_id)
            self._storage.set_study_system_attr(self._study, "study:metric_names", [o.metric for o in self._objectives])
        known = {}
        for trial in self._storage.get_all_trials(self._study, deepcopy=False):
            if NUMBER in trial.user_attrs:
                known[int(trial.user_attrs[NUMBER])] = trial
        with self._database.read() as session:
            for row in session.scalars(sa.select(Trial).where(Trial.search_id == self._search_id)):
                before = known.get(row.number)
                if before is not None and before.state.is_finished():
                    continue
                if before is None and row.observed_as is None:
                    continue
                self._copy_row(session, row, before)

    def _copy_row(self, session: Session, row: Trial, before: FrozenTrial | None) -> None:
        """Take over a trial from our tables, as far as Optuna's storage lacks it."""
        questions = tuple(Question(name, tuple(options), answer) for name, options, answer in row.questions)
        ending = Ending(row.state, row.metrics, row.values, row.violations) if row.observed_as else None
        curve = sa.select(Measurement).where(Measurement.search_id == self._search_id, Measurement.number == row.number)
        with self._lock:
            copy = self._copies.setdefault(row.number, Copy(questions))
            copy.ending = copy.ending or ending
            copy.trial_id = before._trial_id if before is not None else None
        for point in session.scalars(curve):
            self.epoch(row.number, point.epoch, point.metrics)

    def _write(self) -> None:
        with self._lock:
            numbers = list(self._copies)
        for number in numbers:
            with self._lock:
                copy = self._copies[number]
                epochs, ending = dict(copy.epochs), copy.ending
            if copy.trial_id is None:
                copy.trial_id = self._storage.create_new_trial(self._study, self._frozen(number, copy, epochs, ending))
            else:
                self._advance(copy.trial_id, dict(list(epochs.items())[copy.sent :]), ending)
            copy.sent = len(epochs)
            if ending is not None:
                with self._lock:
                    del self._copies[number]

    def _frozen(self, number: int, copy: Copy, epochs: dict[int, float], ending: Ending | None) -> FrozenTrial:
        """A whole trial for one insert: running, or as it ended."""
        now = datetime.datetime.now()
        state, values = self._outcome(ending, bool(epochs)) if ending else (TrialState.RUNNING, None)
        distributions: dict[str, BaseDistribution] = {
            q.name: CategoricalDistribution(q.options) for q in copy.questions
        }
        return FrozenTrial(
            number=-1,
            trial_id=-1,
            state=state,
            value=None,
            values=values,
            datetime_start=now,
            datetime_complete=now if ending else None,
            params={q.name: q.answer for q in copy.questions},
            distributions=distributions,
            user_attrs={NUMBER: number, **(_attributes(ending) if ending else {})},
            system_attrs={CONSTRAINTS: list(ending.violations)} if ending and ending.violations else {},
            intermediate_values=epochs,
        )

    def _advance(self, trial_id: int, epochs: dict[int, float], ending: Ending | None) -> None:
        """Add to a trial that was running when it was last written."""
        for epoch, value in epochs.items():
            self._storage.set_trial_intermediate_value(trial_id, epoch, value)
        if ending is None:
            return
        for name, value in _attributes(ending).items():
            self._storage.set_trial_user_attr(trial_id, name, value)
        if ending.violations:
            self._storage.set_trial_system_attr(trial_id, CONSTRAINTS, list(ending.violations))
        state, values = self._outcome(ending, True)
        self._storage.set_trial_state_values(trial_id, state, values)

    def _outcome(self, ending: Ending, has_epochs: bool) -> tuple[TrialState, list[float] | None]:
        """State and values as Optuna has them: only complete trials have values, pruned ones with one objective too."""
        state = STATES[ending.state]
        keeps = state == TrialState.COMPLETE or (
            state == TrialState.PRUNED and has_epochs and len(self._objectives) == 1
        )
        return state, list(ending.values) if keeps and ending.values else None


def _attributes(ending: Ending) -> dict[str, Any]:
    """What the dashboard lists beside a trial's values: costs, and the reason of a failure."""
    shown = {name: ending.metrics[name] for name in ("params", "macs", "latency_ms") if name in ending.metrics}
    if ending.failure:
        shown["failure"] = f"{ending.failure.kind}: {ending.failure.message}"[:2000]
    return shown

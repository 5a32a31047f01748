"""A copy of the search in Optuna's own storage, for Optuna's dashboard.

Written by a thread, never read by samplers, rebuilt at will.
"""

from __future__ import annotations

import datetime
import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

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


class Mirror:
    """Copies trials as they go on. A mirror that fails says so in the log and is switched off: the search goes on."""

    def __init__(
        self, settings: Settings, search_id: str, name: str, objectives: Sequence[Objective], database: Database
    ) -> None:
        self._settings, self._search_id, self._objectives, self._database = settings, search_id, objectives, database
        self._study_name = f"{name} ({search_id})"
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self._ids: dict[int, int] = {}
        """our trial number → Optuna's trial id"""
        self._thread = threading.Thread(target=self._run, name="optuna-mirror", daemon=True)
        self._thread.start()

    def epoch(self, number: int, epoch: int, metrics: Mapping[str, Any]) -> None:
        """One epoch was reported."""
        self._jobs.put(lambda: self._epoch(number, epoch, metrics))

    def started(self, number: int, questions: Sequence[Question]) -> None:
        """A trial runs."""
        self._jobs.put(lambda: self._started(number, questions))

    def ended(self, number: int, questions: Sequence[Question], ending: Ending) -> None:
        """A trial ended."""
        self._jobs.put(lambda: self._ended(number, questions, ending))

    def close(self, timeout_seconds: float = 20.0) -> None:
        """Write what is left, at most so long."""
        self._jobs.put(None)
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        try:
            self._storage = mirror_storage(self._settings)
            self._open()
            while (job := self._jobs.get()) is not None:
                job()
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
        ended = set()
        for trial in self._storage.get_all_trials(self._study, deepcopy=False):
            number = trial.user_attrs.get(NUMBER)
            if number is not None:
                self._ids[int(number)] = trial._trial_id
                if trial.state.is_finished():
                    ended.add(int(number))
        with self._database.read() as session:
            query = sa.select(Trial).where(Trial.search_id == self._search_id, Trial.observed_as.is_not(None))
            for row in session.scalars(query.order_by(Trial.number)):
                if row.number not in ended:
                    questions = [Question(name, tuple(options), answer) for name, options, answer in row.questions]
                    self._started(row.number, questions)
                    curve = sa.select(Measurement).where(
                        Measurement.search_id == self._search_id, Measurement.number == row.number
                    )
                    for point in session.scalars(curve):
                        self._epoch(point.number, point.epoch, point.metrics)
                    self._ended(row.number, questions, Ending(row.state, row.metrics, row.values, row.violations))

    def _started(self, number: int, questions: Sequence[Question]) -> None:
        if number in self._ids:
            return
        distributions: dict[str, BaseDistribution] = {q.name: CategoricalDistribution(q.options) for q in questions}
        template = FrozenTrial(
            number=-1,
            trial_id=-1,
            state=TrialState.RUNNING,
            value=None,
            datetime_start=datetime.datetime.now(),
            datetime_complete=None,
            params={q.name: q.answer for q in questions},
            distributions=distributions,
            user_attrs={NUMBER: number},
            system_attrs={},
            intermediate_values={},
        )
        self._ids[number] = self._storage.create_new_trial(self._study, template)

    def _epoch(self, number: int, epoch: int, metrics: Mapping[str, Any]) -> None:
        metric = self._objectives[0].metric
        value = metrics.get(metric, metrics.get("val_accuracy"))
        if value is not None and len(self._objectives) == 1 and number in self._ids:
            self._storage.set_trial_intermediate_value(self._ids[number], epoch, float(value))

    def _ended(self, number: int, questions: Sequence[Question], ending: Ending) -> None:
        self._started(number, questions)
        trial_id = self._ids[number]
        if self._storage.get_trial(trial_id).state.is_finished():
            return
        for name, value in ending.metrics.items():
            if isinstance(value, (int, float, str)):
                self._storage.set_trial_user_attr(trial_id, name, value)
        if ending.failure:
            self._storage.set_trial_user_attr(
                trial_id, "failure", f"{ending.failure.kind}: {ending.failure.message}"[:2000]
            )
        if ending.violations:
            self._storage.set_trial_system_attr(trial_id, CONSTRAINTS, list(ending.violations))
        state = STATES[ending.state]
        values = list(ending.values) if ending.values and state == TrialState.COMPLETE else None
        if state == TrialState.PRUNED and ending.values and len(self._objectives) == 1:
            values = list(ending.values)
        self._storage.set_trial_state_values(trial_id, state, values)

"""A small space, a strategy that proposes what it is told, and searches over them that run in this process."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from nas_service.database.session import Database
from nas_service.database.tables import Event, Trial
from nas_service.search.candidates import Candidates
from nas_service.search.inline import run_inline
from nas_service.search.ledger import Ledger
from nas_service.search.mirror import Mirror
from nas_service.search.plan import Plan, make_plan
from nas_service.search.request import SearchRequest
from nas_service.search.schedulers import scheduler_of
from nas_service.search.source import Control
from nas_service.search.status import create
from nas_service.settings import Settings
from nas_service.strategies.protocol import (
    NONE_RUNNING,
    ObservedTrial,
    Problem,
    Proposed,
    StrategyConfig,
    StrategyEntry,
)
from search_spaces.architecture import Architecture, Node, Task
from search_spaces.choose import Choose, replay
from search_spaces.space import Space, SpaceConfig
from tests.conftest import drill
from workers.datasets import DatasetInfo, DatasetSource

WIDTHS = (4, 8, 12, 16, 20, 24)
INFO = DatasetInfo("digits", 10, (1, 8, 8), 8, 2, (1,) * 10, "0" * 64, tuple("0123456789"), (0.0,), (1.0,))


def one_width(choose: Choose, task: Task, config: SpaceConfig) -> Architecture:
    """One convolution of a width to choose, and a classifier."""
    width = choose("width", WIDTHS)
    nodes = (Node("conv_norm_act", (0,), {"out_channels": width}), Node("classifier", (1,), {"classes": task.classes}))
    return Architecture(task, nodes)


class Told:
    """Strategy that proposes given widths, one after the other, and remembers what it saw."""

    def __init__(self, widths: Sequence[int]) -> None:
        self._widths = widths
        self.seen: list[ObservedTrial] = []
        self.running: list[list[int]] = []

    def propose(self, number: int, running: Proposed = NONE_RUNNING) -> Choose:
        self.running.append(sorted(running))
        return replay({"width": self._widths[number % len(self._widths)]})

    def observe(self, trial: ObservedTrial) -> Mapping[str, float | int | None] | None:
        self.seen.append(trial)
        return {"seen": len(self.seen)}

    def snapshot(self) -> dict[str, Any]:
        return {"seen": len(self.seen)}

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Nothing: it proposes what it is told."""


class NoMirror(Mirror):
    """Copies nothing: Optuna's storage is not what is tested."""

    def __init__(self) -> None:
        self._ignored = 0

    def epoch(self, number: int, epoch: int, metrics: Mapping[str, Any]) -> None:
        self._ignored += 1

    def started(self, number: int, *args: Any) -> None:
        self._ignored += 1

    def ended(self, number: int, *args: Any) -> None:
        self._ignored += 1


class Bench:
    """One search in a database, and what its driver would make for it. `restart` is a new driver after a crash."""

    def __init__(
        self, database: Database, settings: Settings, widths: Sequence[int] | None = None, **changes: Any
    ) -> None:
        self.database, self.settings = database, settings
        body = drill(3, **{"scheduler": {"name": "none", "max_epochs": 2}, "strategy": {"name": "random"}, **changes})
        body["evaluator"] = changes.get("evaluator", {"name": "drill", "settings": {"seconds_per_epoch": 0}})
        self.request = SearchRequest.model_validate(body)
        source = DatasetSource(name="digits", format="digits")
        plan = make_plan(self.request, source, INFO, settings)
        if "space" not in changes:
            plan = dataclasses.replace(plan, space=Space("one_width", "", "", SpaceConfig, one_width))
        if widths is not None:

            def make(config: StrategyConfig, problem: Problem) -> Told:
                self.told = Told(widths)
                return self.told

            entry = StrategyEntry("told", "", "", StrategyConfig, make)
            plan = dataclasses.replace(plan, strategy=entry, strategy_config=StrategyConfig())
        self.plan: Plan = plan
        self.id = database.write(lambda session: create(session, self.request, "a test").id)
        self.drivers = 0
        self.restart()

    def restart(self) -> list[int]:
        """A new driver takes over; the numbers of trials that had too many attempts."""
        self.drivers += 1
        self.database.write(lambda session: session.execute(sa.text("UPDATE searches SET lease_until = NULL")))
        self.ledger = Ledger(self.database, self.id, f"driver {self.drivers}", 60)
        self.ledger.claim()
        self.control = Control()
        worn = self.ledger.recover(self.settings.max_attempts)
        self.candidates = Candidates(self.plan, self.ledger, self.database, self.settings, self.control, NoMirror())
        return worn

    def run(self) -> list[Trial]:
        """Run to the end, one candidate after the other; the trials."""
        run_inline(self.candidates, scheduler_of(self.request.scheduler, self.plan.objectives, []))
        return self.trials()

    def trials(self) -> list[Trial]:
        """What is recorded, ends included that wait for the next start to be written with."""
        self.ledger.flush()
        with self.database.read() as session:
            query = sa.select(Trial).where(Trial.search_id == self.id).order_by(Trial.number)
            return list(session.scalars(query))

    def events(self) -> list[Event]:
        with self.database.read() as session:
            return list(session.scalars(sa.select(Event).where(Event.search_id == self.id).order_by(Event.number)))

    def change(self, number: int, **values: Any) -> None:
        """Change a trial's row behind the driver's back."""

        def work(session: Session) -> None:
            row = session.get_one(Trial, (self.id, number))
            for name, value in values.items():
                setattr(row, name, value)

        self.database.write(work)


def epoch(number: int, accuracy: float = 0.5, **more: Any) -> dict[str, Any]:
    """A report as a worker sends it."""
    return {"epoch": number, "val_accuracy": accuracy, "val_loss": 1 - accuracy, "seconds": 0.1, "done": False, **more}


def folder_settings(folder: Path) -> Settings:
    """Settings without Ray."""
    made = Settings(data_dir=folder, executor="inline", allow_drill=True, max_attempts=2)
    made.searches_dir.mkdir(parents=True, exist_ok=True)
    return made

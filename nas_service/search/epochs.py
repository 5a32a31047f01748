"""What trials reported epoch by epoch, written many at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from nas_service.database.tables import Event, Measurement, Trial
from nas_service.search.events import reserve_events


@dataclass(frozen=True)
class Reported:
    """What one epoch of one trial reported, and when."""

    number: int
    epoch: int
    attempt: int
    figures: Mapping[str, Any]
    replayed: bool
    at: float


class Epochs:
    """Epochs reported one after the other, written by a handful of statements however many they are."""

    def __init__(self, search_id: str, reports: list[Reported]) -> None:
        self._search_id = search_id
        self.reports = reports

    def __call__(self, session: Session) -> None:
        new = self._new(session)
        if not new:
            return
        rows = {(report.number, report.epoch): report for report in new}
        table = {"search_id": self._search_id}
        session.execute(
            sa.insert(Measurement),
            [
                {**table, "number": r.number, "epoch": r.epoch, "attempt": r.attempt, "metrics": r.figures, "at": r.at}
                for r in rows.values()
            ],
        )
        for report in new:
            trial = session.get_one(Trial, (self._search_id, report.number))
            trial.epoch = max(trial.epoch or 0, report.epoch)
            trial.metrics = {**trial.metrics, **report.figures}
            trial.train_seconds += float(report.figures.get("seconds") or 0.0)
        first = reserve_events(session, self._search_id, len(new))
        session.execute(
            sa.insert(Event),
            [
                {
                    **table,
                    "number": first + i,
                    "kind": "epoch",
                    "data": {"trial": r.number, "epoch": r.epoch, **r.figures},
                    "at": r.at,
                }
                for i, r in enumerate(new)
            ],
        )

    def _new(self, session: Session) -> list[Reported]:
        """Reports that are not recorded yet; rows of earlier runs that they replace are deleted.

        The very same report is there when a transaction runs again because its commit's answer was lost.
        """
        mine = (Measurement.search_id == self._search_id, Measurement.number.in_({r.number for r in self.reports}))
        query = sa.select(Measurement.number, Measurement.epoch, Measurement.at).where(*mine)
        query = query.where(Measurement.epoch.in_({r.epoch for r in self.reports}))
        recorded = {(row.number, row.epoch): row.at for row in session.execute(query)}
        known = dict(recorded)
        new = []
        for report in self.reports:
            key = (report.number, report.epoch)
            if key in known and (report.replayed or known[key] == report.at):
                continue
            if key in recorded:
                session.execute(
                    sa.delete(Measurement).where(*mine[:1], Measurement.number == key[0], Measurement.epoch == key[1])
                )
                del recorded[key]
            known[key] = report.at
            new.append(report)
        return new

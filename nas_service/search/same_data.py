"""Every candidate of a search is trained on the data that the search began with; where there is none, it rests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from nas_service.database.session import Database
from nas_service.database.tables import Trial
from nas_service.datasets import changed, unreadable
from nas_service.search.ledger import Ledger
from nas_service.search.plan import Plan
from nas_service.search.source import Control
from workers.assignment import Failure


def at_rest(why: str) -> str:
    """The reason of a search that rests for want of its data."""
    return f"{why}; resume the search when its files are back"


class SameData:
    """Looks at what workers report, and halts the search when its data set is gone or another."""

    def __init__(self, plan: Plan, ledger: Ledger, database: Database, control: Control) -> None:
        self._name, self._trains = plan.request.dataset.name, plan.request.evaluator.name == "train"
        self._ledger, self._control = ledger, control
        known = Trial.metrics["data_hash"].as_string()
        own = (Trial.search_id == ledger.search_id, Trial.reused_from.is_(None), known.is_not(None))
        with database.read() as session:
            self._known = session.scalars(sa.select(known).where(*own).limit(1)).first()

    def differs(self, report: Mapping[str, Any]) -> bool:
        """Whether a worker has read other data than those before it; such a report counts for nothing."""
        found = report.get("data_hash")
        self._known = self._known or found
        if found in (None, self._known):
            return False
        self._halt(changed(self._name))
        return True

    def missing(self, failure: Failure) -> bool:
        """Whether a candidate failed for want of data, which is not its fault."""
        if failure.kind != "data" or not self._trains:
            return False
        self._halt(unreadable(self._name, failure.message.removeprefix("DataError: ")))
        return True

    def _halt(self, why: str) -> None:
        reason = at_rest(why)
        self._control.halt(reason)
        self._ledger.set_reason(reason)

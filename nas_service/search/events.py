"""Events and ends of searches, inside a transaction of whoever writes them."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from nas_service.database.tables import SEARCH_ENDED, Event, Finalist, Search, Trial


def append_event(session: Session, search_id: str, kind: str, data: Mapping[str, Any] | None = None) -> int:
    """Append one event; its number in the search. The search's row stays locked to the commit: numbers have no gaps."""
    number = reserve_events(session, search_id, 1)
    session.add(Event(search_id=search_id, number=number, kind=kind, data=dict(data or {}), at=time.time()))
    return number


def reserve_events(session: Session, search_id: str, count: int) -> int:
    """The first of the next ``count`` numbers of events."""
    last = session.execute(
        sa.update(Search)
        .where(Search.id == search_id)
        .values(last_event=Search.last_event + count)
        .returning(Search.last_event)
    ).scalar_one()
    return int(last) - count + 1


def clean(text: str) -> str:
    """Text that every database takes: no NUL, no lone surrogates. A candidate may raise with whatever it likes."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def finish(session: Session, search_id: str, state: str, reason: str, winner: Mapping[str, Any] | None = None) -> None:
    """End or pause a search inside a transaction. One that has ended stays as it is; a cancel outdoes a pause."""
    search = session.get_one(Search, search_id, with_for_update=True)
    if search.state in SEARCH_ENDED:
        return
    if state == "paused" and search.state == "cancelling":
        state, reason = "cancelled", "cancelled by request"
    for table in (Trial, Finalist):
        unfinished = sa.update(table).where(table.search_id == search_id)
        if state == "paused":
            running = unfinished.where(table.state == "running")
            session.execute(running.values(state="pending", attempt=table.attempt - 1))
        else:
            session.execute(unfinished.where(table.state.in_(["pending", "running"])).values(state="cancelled"))
    search.state, search.reason, search.lease_until, search.owner = state, reason, None, None
    if state != "paused":
        search.ended_at = time.time()
    if winner is not None:
        search.winner = dict(winner)
    append_event(session, search_id, f"search_{state}", {"reason": reason})


def finite(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Figures with None in place of NaN and infinity, which no JSON column holds."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in figures.items()}

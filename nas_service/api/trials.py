"""Trials of a search: what was tried, how it trained, why it failed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Query
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel

from nas_service.api.auth import Viewer
from nas_service.api.state import StateDep
from nas_service.api.views import Page, PageSize, PageToken, TrialView, iso, page_key, page_token, trial_view
from nas_service.database.tables import Measurement, Trial
from nas_service.errors import NotFound
from nas_service.search import status

router = APIRouter(prefix="/v1/searches/{search_id}/trials", tags=["trials"])

TrialState = Literal["pending", "running", "completed", "pruned", "infeasible", "failed", "cancelled"]
MAX_LOG_BYTES = 1 << 20


class MeasurementView(BaseModel):
    """What one epoch reported."""

    epoch: int
    attempt: int
    metrics: dict[str, Any]
    at: str | None


@router.get("")
def list_trials(
    search_id: str,
    _: Viewer,
    state: StateDep,
    page_size: PageSize = 100,
    page: PageToken = None,
    only: Annotated[TrialState | None, Query(alias="state", description="only trials in this state")] = None,
) -> Page[TrialView]:
    """Trials by number."""
    after = page_key(page, int)
    with state.database.read() as session:
        status.find_search(session, search_id)
        query = sa.select(Trial).where(Trial.search_id == search_id, Trial.number > (-1 if after is None else after))
        query = query.where(Trial.state == only) if only else query
        rows = list(session.scalars(query.order_by(Trial.number).limit(page_size + 1)))
        items = [trial_view(row) for row in rows[:page_size]]
    return Page(items=items, next_page=page_token(rows[page_size - 1].number) if len(rows) > page_size else None)


@router.get("/{number}")
def get_trial(search_id: str, number: int, _: Viewer, state: StateDep) -> TrialView:
    """One trial."""
    with state.database.read() as session:
        return trial_view(status.find_trial(session, search_id, number))


@router.get("/{number}/measurements")
def get_measurements(search_id: str, number: int, _: Viewer, state: StateDep) -> list[MeasurementView]:
    """What each epoch reported."""
    with state.database.read() as session:
        status.find_trial(session, search_id, number)
        query = (
            sa.select(Measurement)
            .where(Measurement.search_id == search_id, Measurement.number == number)
            .order_by(Measurement.epoch)
        )
        return [
            MeasurementView(epoch=m.epoch, attempt=m.attempt, metrics=m.metrics, at=iso(m.at))
            for m in session.scalars(query)
        ]


@router.get("/{number}/logs", response_class=PlainTextResponse)
def get_log(search_id: str, number: int, _: Viewer, state: StateDep) -> str:
    """What the candidate printed."""
    with state.database.read() as session:
        trial = status.find_trial(session, search_id, number)
        place = trial.reused_from or [search_id, number]
    path = state.settings.searches_dir / str(place[0]) / "trials" / str(place[1]) / "log.txt"
    try:
        with path.open("rb") as file:
            return file.read(MAX_LOG_BYTES).decode("utf-8", "replace")
    except FileNotFoundError:
        raise NotFound(f"trial {number} has printed nothing") from None

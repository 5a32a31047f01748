"""Searches: post, watch, steer."""

from __future__ import annotations

import asyncio
import json
import math
import shutil
from collections.abc import AsyncIterator
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import PlainTextResponse, StreamingResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from nas_service.api import idempotency
from nas_service.api.auth import Runner, Viewer
from nas_service.api.state import State, StateDep
from nas_service.api.views import (
    FinalistView,
    Page,
    PageSize,
    PageToken,
    SearchView,
    TrialView,
    finalist_view,
    iso,
    page_key,
    page_token,
    search_view,
    trial_view,
)
from nas_service.database.tables import SEARCH_ENDED, Event, Export, Finalist, Search, StrategyUpdate
from nas_service.datasets import described
from nas_service.errors import Conflict, InvalidRequest, PreconditionFailed
from nas_service.search import status
from nas_service.search.dry_run import Outlook, outlook
from nas_service.search.events import append_event
from nas_service.search.plan import make_plan
from nas_service.search.report import Report, report
from nas_service.search.report_text import markdown
from nas_service.search.request import COST_METRICS, MEASURED_METRICS, Name, SearchRequest, Strict

router = APIRouter(prefix="/v1/searches", tags=["searches"])

POLL_SECONDS = 0.4
KEEPALIVE_SECONDS = 15.0


class DryRun(BaseModel):
    """What a search would be: the request with every default, and what its space holds."""

    request: dict[str, Any]
    strategy: dict[str, Any] = Field(description="the strategy with every option, as this search would have them")
    steps: int | None = Field(
        description="about how many steps of its optimiser a candidate takes which is never stopped; null: nothing is "
        "trained"
    )
    few_steps: bool = Field(description="whether these may be too few to learn anything")
    zero_cost_scores: bool = Field(description="whether its strategy may have zero-cost scores of untrained networks")
    outlook: Outlook


class EventView(BaseModel):
    """One change in a search."""

    number: int
    kind: str
    data: dict[str, Any]
    at: str | None


class SearchPatch(Strict):
    """What can be changed later."""

    name: Name = Field(min_length=1, description="a new name")


@router.post("", status_code=201, responses={200: {"description": "dry run, or the same request again"}})
def create_search(
    body: SearchRequest,
    who: Runner,
    state: StateDep,
    response: Response,
    key: idempotency.Key = None,
    dry_run: Annotated[bool, Query(description="only say what would be searched")] = False,
) -> SearchView | DryRun:
    """Start a search. With ``dry_run=true`` nothing is stored."""
    source, info = described(body.dataset, state.database, state.settings)
    wanted = body.settled(info.task)
    if wanted.replays is not None:
        with state.database.read() as session:
            if session.get(Search, wanted.replays) is None:
                detail = f"replays is {wanted.replays!r}, and there is no such search; allowed: the id of a search"
                raise InvalidRequest(detail, pointer="/replays")
    plan = make_plan(wanted, source, info, state.settings)
    found = outlook(plan)
    found.check()
    if dry_run:
        response.status_code = 200
        options = {"name": plan.strategy.name, **plan.strategy_config.model_dump(mode="json")}
        return DryRun(
            request=wanted.model_dump(mode="json"),
            strategy=options,
            steps=plan.steps,
            few_steps=plan.few_steps,
            zero_cost_scores=plan.scored,
            outlook=found,
        )
    scope, content = f"POST /v1/searches {who.id}", body.model_dump(mode="json")

    def work(session: Session) -> tuple[str, bool]:
        before = idempotency.known(session, scope, key, content)
        if before is not None:
            return before, False
        search = status.create(session, wanted, f"{body.space['name']} on {info.name}", (source, info))
        idempotency.remember(session, scope, key, content, search.id)
        return search.id, True

    try:
        search_id, fresh = state.database.write(work)
    except IntegrityError:  # a parallel request with the same key was faster
        search_id, fresh = state.database.write(work)
    state.wake()
    response.status_code = 201 if fresh else 200
    response.headers["Location"] = f"/v1/searches/{search_id}"
    with state.database.read() as session:
        return search_view(session, status.find_search(session, search_id))


@router.get("")
def list_searches(_: Viewer, state: StateDep, page_size: PageSize = 50, page: PageToken = None) -> Page[SearchView]:
    """Searches, newest first."""
    after = page_key(page, str)
    with state.database.read() as session:
        query = sa.select(Search).order_by(Search.id.desc()).limit(page_size + 1)
        rows = list(session.scalars(query.where(Search.id < after) if after else query))
        items = [search_view(session, row) for row in rows[:page_size]]
    return Page(items=items, next_page=page_token(rows[page_size - 1].id) if len(rows) > page_size else None)


@router.get("/{search_id}")
def get_search(search_id: str, _: Viewer, state: StateDep, response: Response) -> SearchView:
    """One search."""
    with state.database.read() as session:
        search = status.find_search(session, search_id)
        response.headers["ETag"] = f'"{search.last_event}"'
        return search_view(session, search)


@router.patch("/{search_id}")
def patch_search(
    search_id: str,
    body: SearchPatch,
    _: Runner,
    state: StateDep,
    if_match: Annotated[str | None, Header(max_length=100)] = None,
) -> SearchView:
    """Rename a search; with ``If-Match`` only the version that was read."""

    def work(session: Session) -> SearchView:
        search = status.find_search(session, search_id, lock=True)
        if if_match not in (None, "*", f'"{search.last_event}"'):
            raise PreconditionFailed(f"the search is at version {search.last_event}, not {if_match}")
        search.name = body.name
        append_event(session, search_id, "search_renamed", {"name": body.name})
        session.flush()
        session.refresh(search)
        return search_view(session, search)

    return state.database.write(work)


@router.delete("/{search_id}", status_code=204)
def delete_search(search_id: str, _: Runner, state: StateDep) -> None:
    """Delete a search that has ended, with its trials, exports and files."""

    def work(session: Session) -> None:
        search = status.find_search(session, search_id, lock=True)
        if search.state not in (*SEARCH_ENDED, "paused"):
            raise Conflict(f"search {search_id} is {search.state}; cancel it first")
        making = sa.select(Export.id).where(Export.search_id == search_id, Export.state == "running")
        if session.scalars(making.limit(1)).first():
            raise Conflict(f"an export of search {search_id} is being made; wait until it is ready")
        idempotency.forget(session, search_id)
        session.delete(search)

    state.database.write(work)
    shutil.rmtree(state.settings.searches_dir / search_id, ignore_errors=True)
    shutil.rmtree(state.settings.exports_dir / search_id, ignore_errors=True)


def _steer(state: State, search_id: str, action: Any) -> SearchView:
    def work(session: Session) -> None:
        action(session, search_id)

    state.database.write(work)
    state.wake()
    with state.database.read() as session:
        return search_view(session, status.find_search(session, search_id))


@router.post("/{search_id}/cancel", status_code=202)
def cancel_search(search_id: str, _: Runner, state: StateDep) -> SearchView:
    """End a search; what was found stays."""
    return _steer(state, search_id, status.cancel)


@router.post("/{search_id}/pause", status_code=202)
def pause_search(search_id: str, _: Runner, state: StateDep) -> SearchView:
    """Stop at the next epochs; nothing is lost."""
    return _steer(state, search_id, status.pause)


@router.post("/{search_id}/resume", status_code=202)
def resume_search(search_id: str, _: Runner, state: StateDep) -> SearchView:
    """Go on after a pause."""
    return _steer(state, search_id, status.resume)


BOUNDS = tuple(f"{side}_{metric}" for metric in (*COST_METRICS, *MEASURED_METRICS) for side in ("max", "min"))


@router.get("/{search_id}/pareto")
def get_pareto(search_id: str, _: Viewer, state: StateDep, request: Request) -> list[TrialView]:
    """Trials that no other beats in every objective, best first by the first one.

    Bounds on any metric narrow the trials before: ``?max_latency_ms=8&min_val_accuracy=0.9`` answers "best under".
    """
    bounds = [(name, *_bound(name, text)) for name, text in request.query_params.multi_items()]
    with state.database.read() as session:
        search = status.find_search(session, search_id)
        return [trial_view(trial) for trial in status.front(session, search, [bound[1:] for bound in bounds])]


def _bound(name: str, text: str) -> tuple[str, float, float]:
    """(metric, lowest, highest) of one bound in the query."""
    if name not in BOUNDS:
        raise InvalidRequest(f"bound {name!r}; allowed: {', '.join(BOUNDS)}", pointer=f"/{name}")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InvalidRequest(f"{name} is {text!r:.100}; allowed: a finite number", pointer=f"/{name}")
    side, metric = name.split("_", 1)
    return (metric, -math.inf, value) if side == "max" else (metric, value, math.inf)


@router.get("/{search_id}/finalists")
def get_finalists(search_id: str, _: Viewer, state: StateDep) -> list[FinalistView]:
    """Full trainings of the best candidates."""
    with state.database.read() as session:
        status.find_search(session, search_id)
        rows = session.scalars(
            sa.select(Finalist).where(Finalist.search_id == search_id).order_by(Finalist.number, Finalist.seed)
        )
        return [finalist_view(row) for row in rows]


@router.get("/{search_id}/report")
def get_report(search_id: str, _: Viewer, state: StateDep) -> Report:
    """How much to believe of the search: baseline, noise, correlations, importance of decisions, cost."""
    with state.database.read() as session:
        return report(session, status.find_search(session, search_id))


@router.get("/{search_id}/report.md", response_class=PlainTextResponse)
def get_report_text(search_id: str, _: Viewer, state: StateDep) -> PlainTextResponse:
    """The report as Markdown."""
    with state.database.read() as session:
        search = status.find_search(session, search_id)
        return PlainTextResponse(markdown(report(session, search), search.name), media_type="text/markdown")


@router.get("/{search_id}/strategy")
def get_strategy_updates(search_id: str, _: Viewer, state: StateDep) -> list[dict[str, Any]]:
    """What each result changed in the strategy: for rl reward, baseline, entropy, loss."""
    with state.database.read() as session:
        status.find_search(session, search_id)
        query = (
            sa.select(StrategyUpdate).where(StrategyUpdate.search_id == search_id).order_by(StrategyUpdate.observed_as)
        )
        return [{"trial": row.number, "observed_as": row.observed_as, **row.figures} for row in session.scalars(query)]


@router.get("/{search_id}/events")
def list_events(
    search_id: str,
    _: Viewer,
    state: StateDep,
    after: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
    limit: PageSize = 200,
) -> list[EventView]:
    """Events after a number."""
    with state.database.read() as session:
        status.find_search(session, search_id)
        return _events(session, search_id, after, limit)


def _events(session: Session, search_id: str, after: int, limit: int) -> list[EventView]:
    query = (
        sa.select(Event).where(Event.search_id == search_id, Event.number > after).order_by(Event.number).limit(limit)
    )
    return [
        EventView(number=row.number, kind=row.kind, data=row.data, at=iso(row.at)) for row in session.scalars(query)
    ]


@router.get("/{search_id}/events/stream", response_class=StreamingResponse)
async def stream_events(
    search_id: str,
    _: Viewer,
    state: StateDep,
    request: Request,
    after: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
    last_event_id: Annotated[str | None, Header(max_length=20, pattern=r"^\d+$")] = None,
) -> StreamingResponse:
    """Events as they happen (text/event-stream), from ``Last-Event-ID`` on; ends after the search's last event."""
    start = min(int(last_event_id), 2**31 - 1) if last_event_id else after

    def first() -> None:
        with state.database.read() as session:
            status.find_search(session, search_id)

    await run_in_threadpool(first)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_stream(state, search_id, start, request), media_type="text/event-stream", headers=headers)


async def _stream(state: State, search_id: str, last: int, request: Request) -> AsyncIterator[str]:
    def fetch() -> tuple[list[EventView], bool]:
        with state.database.read() as session:
            search = session.get(Search, search_id)
            events = _events(session, search_id, last, 500)
            return events, search is None or (
                search.state in SEARCH_ENDED and search.last_event <= (events[-1].number if events else last)
            )

    quiet = 0.0
    yield ": connected\n\n"
    while not state.stopping.is_set() and not await request.is_disconnected():
        events, over = await run_in_threadpool(fetch)
        for event in events:
            last = event.number
            yield f"id: {event.number}\nevent: {event.kind}\ndata: {json.dumps({'at': event.at, **event.data})}\n\n"
        if over:
            yield "event: end\ndata: {}\n\n"
            return
        quiet = 0.0 if events else quiet + POLL_SECONDS
        if quiet > KEEPALIVE_SECONDS:
            quiet = 0.0
            yield ": still here\n\n"
        await asyncio.sleep(POLL_SECONDS)

"""What the API answers. Times are ISO 8601 in UTC."""

from __future__ import annotations

import base64
import binascii
import json
import re
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel
from sqlalchemy.orm import Session

from nas_service.database.tables import Export, Finalist, Search, Trial
from nas_service.errors import InvalidRequest
from nas_service.search import status

Item = TypeVar("Item")
KEY = re.compile(r"[0-9a-z-]{1,40}")
"""An id, as it may stand in a page token."""


class Page(BaseModel, Generic[Item]):
    """One page of a list; ``next_page`` is the token of the next, null on the last."""

    items: list[Item]
    next_page: str | None = None


PageSize = Annotated[int, Query(ge=1, le=500, description="items a page")]
PageToken = Annotated[str | None, Query(max_length=300, description="next_page of the page before")]


def page_token(key: Any) -> str:
    """Opaque token of the last key of a page."""
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


def page_key(token: str | None, kind: type[Any]) -> Any:
    """The key in a token, or None. Raises InvalidRequest when it is not one of ours."""
    if token is None:
        return None
    try:
        key = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(f"page {token!r} is not a page token", pointer="") from error
    if type(key) is not kind or (not KEY.fullmatch(key) if kind is str else not -(2**31) <= key < 2**31):
        raise InvalidRequest(f"page {token!r} is not a page token of this list", pointer="")
    return key


def iso(seconds: float | None) -> str | None:
    """Seconds since 1970 as ISO 8601."""
    return (
        None
        if seconds is None
        else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )


class Failed(BaseModel):
    """Why a trial failed."""

    kind: str
    message: str | None
    traceback: str | None


class TrialView(BaseModel):
    """One trial."""

    number: int
    state: str
    fingerprint: str | None
    decisions: dict[str, Any]
    values: list[float] | None
    metrics: dict[str, Any]
    violations: list[float] | None
    epoch: int | None
    attempt: int
    counted: bool
    reused_from: list[Any] | None
    failure: Failed | None
    reason: str | None
    """Why an infeasible candidate was not trained, or not to its end: bounds that it misses, rules that it breaks and
    where."""
    train_seconds: float
    has_weights: bool
    created_at: str | None
    started_at: str | None
    ended_at: str | None


def trial_view(trial: Trial) -> TrialView:
    facts = status.facts(trial)
    times = {name: iso(facts[name]) for name in ("created_at", "started_at", "ended_at")}
    return TrialView.model_validate({**facts, **times})


class ProgressView(BaseModel):
    """How far a search is."""

    states: dict[str, int]
    counted: int
    max_trials: int
    finalists_done: int
    finalists: int
    fraction: float
    eta_seconds: float | None


class SearchView(BaseModel):
    """One search."""

    id: str
    name: str
    state: str
    stage: str
    reason: str
    request: dict[str, Any]
    created_at: str | None
    started_at: str | None
    ended_at: str | None
    used_seconds: float
    last_event: int
    observed: int
    progress: ProgressView
    best: TrialView | None
    winner: dict[str, Any] | None


def search_view(session: Session, search: Search) -> SearchView:
    best = status.best_trial(session, search)
    winner = {k: v for k, v in search.winner.items() if k != "weights"} if search.winner else None
    return SearchView(
        id=search.id,
        name=search.name,
        state=search.state,
        stage=search.stage,
        reason=search.reason,
        request=search.request,
        created_at=iso(search.created_at),
        started_at=iso(search.started_at),
        ended_at=iso(search.ended_at),
        used_seconds=search.used_seconds,
        last_event=search.last_event,
        observed=search.observed,
        progress=ProgressView.model_validate(vars(status.progress(session, search))),
        best=trial_view(best) if best else None,
        winner=winner,
    )


class FinalistView(BaseModel):
    """One full training of one of the best candidates."""

    number: int
    seed: int
    state: str
    epoch: int | None
    metrics: dict[str, Any]
    curve: list[dict[str, Any]]
    failure: Failed | None


def finalist_view(row: Finalist) -> FinalistView:
    failure = None
    if row.failure_kind:
        failure = Failed(kind=row.failure_kind, message=row.failure_message, traceback=row.failure_traceback)
    return FinalistView(
        number=row.number,
        seed=row.seed,
        state=row.state,
        epoch=row.epoch,
        metrics=row.metrics,
        curve=row.curve,
        failure=failure,
    )


class ExportView(BaseModel):
    """One take-home package."""

    id: str
    search: str
    trial: int
    seed: int | None
    state: str
    reason: str
    manifest: dict[str, Any] | None
    certificate: dict[str, Any] | None
    created_at: str | None
    ended_at: str | None


def export_view(row: Export) -> ExportView:
    return ExportView(
        id=row.id, search=row.search_id, trial=row.number, seed=row.seed, state=row.state, reason=row.reason,
        manifest=row.manifest, certificate=row.certificate, created_at=iso(row.created_at), ended_at=iso(row.ended_at),
    )  # fmt: skip

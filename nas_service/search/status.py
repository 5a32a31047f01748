"""Where a search stands, as people ask for it: counts, best so far, time left."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from nas_service.database.tables import SEARCH_ENDED, Finalist, Search, Trial
from nas_service.errors import Conflict, NotFound
from nas_service.search.events import append_event, finish
from nas_service.search.guessing import guessing
from nas_service.search.ranking import best_first, pareto_front
from nas_service.search.request import SCORES, SearchRequest
from nas_service.strategies.merit import turned
from nas_service.strategies.protocol import Objective
from workers.datasets import DatasetInfo, DatasetSource


@dataclass(frozen=True)
class Progress:
    """Counts by state, the share that is done (0 to 1) and the seconds left, None where nobody can know."""

    states: dict[str, int]
    counted: int
    max_trials: int
    finalists_done: int
    finalists: int
    fraction: float
    eta_seconds: float | None


def new_id() -> str:
    """A short id that sorts by time: eight digits of time in base 32, four random ones."""
    alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
    stamp = int(time.time() * 10)
    return "".join(alphabet[(stamp >> shift) & 31] for shift in range(35, -5, -5)) + "".join(
        secrets.choice(alphabet) for _ in range(4)
    )


def find_search(session: Session, search_id: str, *, lock: bool = False) -> Search:
    """The search, or NotFound. With ``lock`` nobody else changes it before the transaction ends."""
    search = session.get(Search, search_id, with_for_update=lock or None)
    if search is None:
        raise NotFound(f"no search {search_id!r}")
    return search


def objectives_of(search: Search) -> tuple[Objective, ...]:
    """Objectives of a stored request."""
    from nas_service.search.request import ObjectiveSpec

    specs = [ObjectiveSpec.model_validate(o) for o in search.request["objectives"]]
    return tuple(Objective(spec.metric, spec.better) for spec in specs)


def score_of(search: Search, trials: Iterable[Trial] = ()) -> str:
    """The validation score that people go by: the first objective that is one, else the first that trials have."""
    named = [o["metric"] for o in search.request["objectives"]] + [name for trial in trials for name in trial.metrics]
    return next((name for name in named if name in SCORES), "val_accuracy")


def progress(session: Session, search: Search) -> Progress:
    """How far a search is; the time left is that of the part done, in proportion."""
    counts = session.execute(
        sa.select(Trial.state, Trial.counted, sa.func.count())
        .where(Trial.search_id == search.id)
        .group_by(Trial.state, Trial.counted)
    ).all()
    states: dict[str, int] = {}
    for state, _, count in counts:
        states[state] = states.get(state, 0) + count
    counted = sum(
        count
        for state, is_counted, count in counts
        if is_counted and state in ("completed", "pruned", "failed", "infeasible")
    )
    finalists = sa.select(Finalist.state, sa.func.count()).where(Finalist.search_id == search.id)
    finals = {row[0]: int(row[1]) for row in session.execute(finalists.group_by(Finalist.state))}
    budget, final = search.request["budget"], search.request["finalists"]
    max_epochs = search.request["scheduler"]["max_epochs"]
    planned = final["top_k"] * len(final["seeds"]) if search.request["evaluator"]["name"] == "train" else 0
    total = sum(finals.values()) or planned
    done = finals.get("completed", 0) + finals.get("failed", 0)
    weight = (final["epochs"] or 2 * max_epochs) / max_epochs
    work = budget["max_trials"] + weight * total
    fraction = (min(counted, budget["max_trials"]) + weight * done) / work
    if search.stage == "search" and budget["max_seconds"]:
        fraction = max(fraction, min(1.0, search.used_seconds / budget["max_seconds"]) * budget["max_trials"] / work)
    if search.state == "succeeded":
        fraction = 1.0
    left = search.used_seconds * (1 - fraction) / fraction if fraction > 0 and search.used_seconds else None
    eta = left if search.state in ("running", "pausing") else None
    return Progress(states, counted, budget["max_trials"], done, total, fraction, eta)


def best_trials(session: Session, search: Search) -> list[Trial]:
    """Feasible completed trials, best first."""
    return best_first(session, search.id, objectives_of(search))


def best_trial(session: Session, search: Search) -> Trial | None:
    """Best feasible completed trial so far."""
    ranked = best_trials(session, search)
    return ranked[0] if ranked else None


def front(session: Session, search: Search, bounds: Iterable[tuple[str, float, float]] = ()) -> list[Trial]:
    """The Pareto front of the completed trials, in the order of the first objective.

    ``bounds``: (metric, lowest, highest); a trial without the metric is out.
    """
    objectives, bounds = objectives_of(search), list(bounds)
    trials = [
        trial
        for trial in best_first(session, search.id, objectives)
        if all(
            (known := trial.metrics.get(metric)) is not None and low <= known <= high for metric, low, high in bounds
        )
    ]
    indices = pareto_front([turned(t.values or (), objectives) for t in trials])
    return sorted((trials[i] for i in indices), key=lambda t: turned(t.values or (), objectives))


def create(
    session: Session, request: SearchRequest, label: str, data: tuple[DatasetSource, DatasetInfo] | None = None
) -> Search:
    """Store a new search, queued, with the data set that its name means now; None: what it means when it runs."""
    held = None
    if data is not None:
        source, info = data
        guess = guessing(request.dataset, info) if request.evaluator.name == "train" else None
        held = {
            "source": source.model_dump(mode="json"),
            "content_hash": info.content_hash,
            "guessing": asdict(guess) if guess else None,
        }
    search = Search(
        id=new_id(), name=request.name or label, request=request.model_dump(mode="json"), data=held, state="queued",
        reason="waits for its driver", stage="search", created_at=time.time(), used_seconds=0.0, epoch=0, restarts=0,
        last_event=0, observed=0,
    )  # fmt: skip
    session.add(search)
    session.flush()
    append_event(session, search.id, "search_created", {"name": search.name})
    return search


def cancel(session: Session, search_id: str) -> Search:
    """Ask for the end. At once where no driver is at work; a search that was cancelled before stays so."""
    search = find_search(session, search_id, lock=True)
    if search.state in ("cancelled", "cancelling"):
        return search
    if search.state in SEARCH_ENDED:
        raise Conflict(f"search {search_id} has {search.state}; only unfinished searches can be cancelled")
    if search.state in ("queued", "paused") and not _driven(search):
        finish(session, search_id, "cancelled", "cancelled by request")
    else:
        search.state = "cancelling"
        append_event(session, search_id, "search_cancelling")
    return search


def pause(session: Session, search_id: str) -> Search:
    """Ask for a pause: running candidates stop at their next epoch and continue from there later."""
    search = find_search(session, search_id, lock=True)
    if search.state in ("pausing", "paused"):
        return search
    if search.state not in ("queued", "running"):
        raise Conflict(f"search {search_id} is {search.state}; only queued and running searches can be paused")
    if search.state == "queued" and not _driven(search):
        finish(session, search_id, "paused", "paused by request")
    else:
        search.state = "pausing"
        append_event(session, search_id, "search_pausing")
    return search


def resume(session: Session, search_id: str) -> Search:
    """Go on where it was paused."""
    search = find_search(session, search_id, lock=True)
    if search.state in ("queued", "running"):
        return search
    if search.state != "paused":
        raise Conflict(f"search {search_id} is {search.state}; only paused searches can be resumed")
    search.state, search.reason, search.lease_until, search.owner, search.restarts = (
        "queued",
        "waits for its driver",
        None,
        None,
        0,
    )
    append_event(session, search_id, "search_resumed")
    return search


def _driven(search: Search) -> bool:
    return search.lease_until is not None and math.isfinite(search.lease_until)


def facts(trial: Trial) -> dict[str, Any]:
    """A trial as pages and API show it."""
    return {
        "number": trial.number,
        "state": trial.state,
        "fingerprint": trial.fingerprint,
        "decisions": {name: answer for name, _, answer in trial.questions},
        "values": trial.values,
        "metrics": trial.metrics,
        "violations": trial.violations,
        "epoch": trial.epoch,
        "attempt": trial.attempt,
        "counted": trial.counted,
        "reused_from": trial.reused_from,
        "failure": {"kind": trial.failure_kind, "message": trial.failure_message, "traceback": trial.failure_traceback}
        if trial.failure_kind
        else None,
        "reason": trial.failure_message if trial.state == "infeasible" else None,
        "train_seconds": trial.train_seconds,
        "has_weights": trial.weights is not None,
        "created_at": trial.created_at,
        "started_at": trial.started_at,
        "ended_at": trial.ended_at,
    }


def find_trial(session: Session, search_id: str, number: int) -> Trial:
    """The trial, or NotFound."""
    find_search(session, search_id)
    trial = session.get(Trial, (search_id, number)) if 0 <= number < 2**31 else None
    if trial is None:
        raise NotFound(f"search {search_id} has no trial {number}")
    return trial

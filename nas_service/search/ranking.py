"""Which trials are best: among the feasible ones the Pareto front first, then by the first objective."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.orm import Session

from nas_service.database.tables import Trial
from nas_service.strategies.merit import feasible, turned
from nas_service.strategies.protocol import Objective


def dominates(one: Sequence[float], two: Sequence[float]) -> bool:
    """Whether ``one`` is nowhere worse than ``two`` and somewhere better; less is better."""
    return all(a <= b for a, b in zip(one, two, strict=True)) and any(a < b for a, b in zip(one, two, strict=True))


def pareto_front(points: Sequence[Sequence[float]]) -> list[int]:
    """Indices of the points that no other dominates, ascending; less is better. Of equal points the first stays.

    A point can only be dominated by one that comes before it in lexicographic order, so it is compared with the front
    of those before it: n log n and n times the size of the front.
    """
    front: list[int] = []
    for i in sorted(range(len(points)), key=lambda i: (tuple(points[i]), i)):
        if not any(all(a <= b for a, b in zip(points[j], points[i], strict=True)) for j in front):
            front.append(i)
    return sorted(front)


def hypervolume(points: Sequence[Sequence[float]]) -> float:
    """Volume that points dominate in the unit box, less is better; coordinates above 1 count as 1. 0 to 1.

    By slices along the last coordinate of the front, each sliced again (While et al. 2006, hypervolume by slicing).
    """
    inside = [tuple(min(1.0, value) for value in points[i]) for i in pareto_front(points)]
    if not inside:
        return 0.0
    if len(inside[0]) == 1:
        return 1.0 - inside[0][0]
    levels = sorted({point[-1] for point in inside if point[-1] < 1.0})
    total = 0.0
    for low, high in zip(levels, [*levels, 1.0][1:], strict=True):
        total += (high - low) * hypervolume([point[:-1] for point in inside if point[-1] <= low])
    return total


def scaled(points: Sequence[Sequence[float]]) -> list[tuple[float, ...]]:
    """Points with every coordinate brought to 0 (the best of all) to 1 (the worst); 0 where all are equal."""
    lows, highs = [min(axis) for axis in zip(*points, strict=True)], [max(axis) for axis in zip(*points, strict=True)]
    return [
        tuple((v - low) / (high - low) if high > low else 0.0 for v, low, high in zip(p, lows, highs, strict=True))
        for p in points
    ]


def knee(points: Sequence[Sequence[float]]) -> int:
    """Index of the point of the front that is farthest from the plane through the front's ends (Das 1999)."""
    front = pareto_front(points)
    places = scaled([points[i] for i in front])
    return front[min(range(len(front)), key=lambda i: (sum(places[i]), i))]


def completed(session: Session, search_id: str) -> list[Trial]:
    """Feasible completed trials of a search, in the order of their numbers."""
    query = sa.select(Trial).where(Trial.search_id == search_id, Trial.state == "completed").order_by(Trial.number)
    return [t for t in session.scalars(query) if t.values and feasible(t.violations)]


def best_first(session: Session, search_id: str, objectives: Sequence[Objective]) -> list[Trial]:
    """Feasible completed trials, each architecture once: the Pareto front by the first objective, then the others."""
    seen: set[str | None] = set()
    trials = []
    for trial in completed(session, search_id):
        if trial.fingerprint not in seen:
            seen.add(trial.fingerprint)
            trials.append(trial)
    points = [turned(trial.values or (), objectives) for trial in trials]
    front = set(pareto_front(points))
    order = sorted(range(len(trials)), key=lambda i: (i not in front, points[i], trials[i].number))
    return [trials[i] for i in order]

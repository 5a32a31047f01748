"""What a space holds, by a sample: its size, the range of costs, and the share that meets the constraints."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from nas_service.errors import InvalidRequest
from nas_service.search.plan import Plan, cost_metrics
from search_spaces.architecture import Architecture, ArchitectureError
from search_spaces.auxiliary import without_auxiliary
from search_spaces.choose import Choose, Recorder, SpaceError, estimated_size, sample
from search_spaces.cost import costs

SAMPLES = 24
MORE_SAMPLES = 200
"""Drawn when none of the first ones meets the constraints, before a request is refused."""


@dataclass(frozen=True)
class Outlook:
    """Figures of uniform random samples."""

    size: dict[str, Any]
    """estimate, low, high, exact: number of different decision sets."""
    samples: int
    feasible_share: float
    costs: dict[str, dict[str, float]]
    """Least, median and most of each cost."""
    example: dict[str, Any]
    """Decisions of one sample."""
    closest: list[str]
    """For constraints that no sample met: how near the best came."""

    def check(self) -> None:
        """Raise InvalidRequest when no sample meets the constraints."""
        if self.feasible_share == 0:
            raise InvalidRequest(
                f"none of {self.samples} random architectures of this space meets the constraints; "
                + "; ".join(self.closest),
                pointer="/constraints",
            )


def outlook(plan: Plan) -> Outlook:
    """Sample the space of a plan against its constraints. Raises InvalidRequest when it cannot be built."""

    def keeps(row: dict[str, Any]) -> bool:
        return all(violation <= 0 for violation in plan.violations(row, costs_only=True))

    def closest(rows: list[dict[str, Any]]) -> list[str]:
        return _closest(plan, rows)

    return outlook_of(plan.ask, plan.space.name, plan.request.seed, keeps, closest)


def outlook_of(
    ask: Callable[[Choose], Architecture],
    name: str,
    seed: int,
    keeps: Callable[[dict[str, Any]], bool] = lambda row: True,
    closest: Callable[[list[dict[str, Any]]], list[str]] = lambda rows: [],
) -> Outlook:
    """Sample a bound space. Raises InvalidRequest when it cannot be built at all."""
    rng = random.Random(seed)
    rows: list[dict[str, Any]] = []
    kept = 0
    decisions: dict[str, Any] = {}
    for index in range(MORE_SAMPLES):
        if index >= SAMPLES and kept:
            break
        row, decisions = _one(ask, name, rng)
        rows.append(row)
        kept += keeps(row)
    size = estimated_size(ask, random.Random(seed), samples=30, exact_up_to=60)
    ranges = {}
    for metric in rows[0]:
        values = sorted(float(row[metric]) for row in rows)
        ranges[metric] = {"least": values[0], "median": values[len(values) // 2], "most": values[-1]}
    return Outlook(asdict(size), len(rows), kept / len(rows), ranges, decisions, [] if kept else closest(rows))


def _one(ask: Callable[[Choose], Architecture], name: str, rng: random.Random) -> tuple[dict[str, Any], dict[str, Any]]:
    recorder = Recorder(sample(rng))
    try:
        return cost_metrics(costs(without_auxiliary(ask(recorder)))), recorder.decisions
    except (ArchitectureError, SpaceError, ValueError, RuntimeError) as error:
        raise InvalidRequest(
            f"space {name!r} cannot be built with these options for this data: {error}", pointer="/space"
        ) from error


def _closest(plan: Plan, rows: list[dict[str, Any]]) -> list[str]:
    found = []
    for constraint in plan.request.constraints:
        if constraint.metric in rows[0]:
            value = min((float(row[constraint.metric]) for row in rows), key=constraint.violation)
            if constraint.violation(value) > 0:
                bound = (
                    f"max {constraint.max:g}"
                    if constraint.max is not None and value > constraint.max
                    else f"min {constraint.min:g}"
                )
                found.append(f"{constraint.metric}: {bound} asked, the nearest sample has {value:g}")
    return found

"""What a space holds, by a sample: its size, the range of costs, and the share that meets the constraints."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from nas_service.errors import InvalidRequest
from nas_service.search.plan import Plan, network_costs
from search_spaces.architecture import Architecture, ArchitectureError
from search_spaces.build import Walk, walk
from search_spaces.choose import Choose, Recorder, SpaceError, estimated_size, sample
from search_spaces.rules import Broken

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
    """For constraints and rules that no sample met: how near the best came."""
    rules: dict[str, float] = field(default_factory=dict)
    """Share of the samples that keep each design rule."""

    def check(self) -> None:
        """Raise InvalidRequest when no sample meets the constraints."""
        if self.feasible_share == 0:
            raise InvalidRequest(
                f"none of {self.samples} random architectures of this space meets the constraints and rules; "
                + "; ".join(self.closest),
                pointer="/rules" if any(share == 0 for share in self.rules.values()) else "/constraints",
            )


def outlook(plan: Plan) -> Outlook:
    """Sample the space of a plan against its constraints. Raises InvalidRequest when it cannot be built."""

    return outlook_of(plan.ask, plan.space.name, plan.request.seed, plan)


def outlook_of(ask: Callable[[Choose], Architecture], name: str, seed: int, plan: Plan | None = None) -> Outlook:
    """Sample a bound space, against the constraints and rules of a plan if there is one.

    Raises InvalidRequest when it cannot be built at all.
    """
    rng = random.Random(seed)
    rows: list[dict[str, Any]] = []
    kept = 0
    decisions: dict[str, Any] = {}
    violators: dict[str, list[Broken]] = {rule: [] for rule in plan.request.rules} if plan else {}
    for index in range(MORE_SAMPLES):
        if index >= SAMPLES and kept:
            break
        looked_into, decisions = _one(ask, name, rng)
        rows.append(network_costs(looked_into))
        found = plan.broken(looked_into) if plan else ()
        for each in found:
            violators[each.rule].append(each)
        kept += plan is None or all(v <= 0 for v in plan.violations(rows[-1], costs_only=True, broken=found))
    size = estimated_size(ask, random.Random(seed), samples=30, exact_up_to=60)
    ranges = {}
    for metric in rows[0]:
        values = sorted(float(row[metric]) for row in rows)
        ranges[metric] = {"least": values[0], "median": values[len(values) // 2], "most": values[-1]}
    closest = _closest(plan, rows, violators) if plan and not kept else []
    shares = {rule: (len(rows) - len(broken)) / len(rows) for rule, broken in violators.items()}
    return Outlook(asdict(size), len(rows), kept / len(rows), ranges, decisions, closest, shares)


@dataclass(frozen=True)
class Decision:
    """One question of a space: its name, its options, and the share of random samples in which it is asked."""

    name: str
    options: list[Any]
    asked: float


def decisions_of(ask: Callable[[Choose], Architecture], name: str, seed: int, samples: int = 100) -> list[Decision]:
    """The questions of a bound space, in the order in which random samples meet them.

    Raises InvalidRequest when it cannot be asked for this data.
    """
    counts: dict[str, int] = {}
    options: dict[str, list[Any]] = {}
    for number in range(samples):
        recorder = Recorder(sample(random.Random(f"{seed}:{number}")))
        try:
            ask(recorder)
        except (ArchitectureError, SpaceError, ValueError) as error:
            raise InvalidRequest(f"space {name!r} cannot be asked with this data: {error}", pointer="/space") from error
        for question in recorder.questions:
            counts[question.name] = counts.get(question.name, 0) + 1
            options[question.name] = list(question.options)
    return [Decision(each, options[each], count / samples) for each, count in counts.items()]


def _one(ask: Callable[[Choose], Architecture], name: str, rng: random.Random) -> tuple[Walk, dict[str, Any]]:
    recorder = Recorder(sample(rng))
    try:
        return walk(ask(recorder)), recorder.decisions
    except (ArchitectureError, SpaceError, ValueError, RuntimeError) as error:
        raise InvalidRequest(
            f"space {name!r} cannot be built with these options for this data: {error}", pointer="/space"
        ) from error


def _closest(plan: Plan, rows: list[dict[str, Any]], violators: dict[str, list[Broken]]) -> list[str]:
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
    for rule, broken in violators.items():
        if len(broken) == len(rows):
            found.append(f"rule {rule}: every sample breaks it, one at {broken[0].node}: {broken[0].reason}")
    return found

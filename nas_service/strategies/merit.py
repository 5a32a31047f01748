"""Which of two trials is better, whatever they ended as and however many objectives there are."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from nas_service.strategies.protocol import Objective, ObservedTrial

Floats = npt.NDArray[np.float64]


def turned(values: Sequence[float], objectives: Sequence[Objective]) -> tuple[float, ...]:
    """Objective values turned so that less is better."""
    return tuple(-v if goal.direction == "maximize" else v for v, goal in zip(values, objectives, strict=True))


def losses(trial: ObservedTrial, objectives: Sequence[Objective]) -> tuple[float, ...] | None:
    """Objective values turned so that less is better; None where there are none or one is not finite."""
    if trial.values is None or len(trial.values) != len(objectives) or not all(map(math.isfinite, trial.values)):
        return None
    return turned(trial.values, objectives)


def feasible(violations: Sequence[float] | None) -> bool:
    """Whether no constraint is missed; what is not known counts as kept."""
    return not any(violation > 0 for violation in violations or ())


def has_result(trial: ObservedTrial, objectives: Sequence[Objective]) -> bool:
    """True for a trial with a usable value: completed or pruned, values finite, no constraint found violated."""
    kept = all(v <= 0 for v in trial.violations)
    return trial.state in ("completed", "pruned") and kept and losses(trial, objectives) is not None


def violation(trial: ObservedTrial) -> float:
    """Sum of what the constraints are missed by; infinite where it is not known."""
    total = sum(max(v, 0.0) for v in trial.violations)
    return total if trial.violations and math.isfinite(total) else math.inf


def classes(trials: Sequence[ObservedTrial], objectives: Sequence[Objective]) -> list[tuple[float, ...]]:
    """A key for each trial, less is better: completed, then pruned (the longer it ran the better), infeasible (Deb: the
    less it violates), failed.

    Trials with values are ordered among themselves by the value, or with several objectives by the rank of their
    non-dominated front and then by the crowding distance (Deb et al., NSGA-II, 2002).
    """
    keys: list[tuple[float, ...]] = [()] * len(trials)
    groups: dict[tuple[float, float], list[int]] = {}
    for i, trial in enumerate(trials):
        if has_result(trial, objectives):
            group = (0.0, 0.0) if trial.state == "completed" else (1.0, -float(trial.epoch or 0))
            groups.setdefault(group, []).append(i)
        elif trial.state == "infeasible" or any(v > 0 for v in trial.violations):
            keys[i] = (2.0, violation(trial), 0.0, 0.0)
        else:
            keys[i] = (3.0, 0.0, 0.0, 0.0)
    for group, members in groups.items():
        table = np.array([losses(trials[i], objectives) for i in members], dtype=np.float64)
        if len(objectives) == 1:
            for i, loss in zip(members, table[:, 0].tolist(), strict=True):
                keys[i] = (*group, loss, 0.0)
        else:
            ranks = front_ranks(table)
            distances = crowding(table, ranks)
            for i, rank, distance in zip(members, ranks.tolist(), distances.tolist(), strict=True):
                keys[i] = (*group, float(rank), -distance)
    return keys


def merits(trials: Sequence[ObservedTrial], objectives: Sequence[Objective]) -> Floats:
    """Share of the other trials that each one beats, ties counted half: ``[len(trials)]``, 0 to 1; 0.5 for one trial.

    Trials without a result get 0, however many of them there are.
    """
    keys = classes(trials, objectives)
    order = dict.fromkeys(sorted(keys))
    counts = dict.fromkeys(order, 0)
    for key in keys:
        counts[key] += 1
    share: dict[tuple[float, ...], float] = {}
    better = 0
    for key in order:
        worse = len(keys) - better - counts[key]
        share[key] = (worse + 0.5 * (counts[key] - 1)) / (len(keys) - 1) if len(keys) > 1 else 0.5
        better += counts[key]
    return np.array([share[key] if key[0] < 2.0 else 0.0 for key in keys], dtype=np.float64)


def front_ranks(table: Floats) -> npt.NDArray[np.int64]:
    """Non-dominated front of each row of ``table`` ``[n, objectives]``, less is better; 0 is the best front.

    Rows in lexicographic order are dominated by earlier ones alone; the front of each is found by bisection (efficient
    non-dominated sort, Zhang et al., IEEE Transactions on Evolutionary Computation 19, 2015).
    """
    rows, places = np.unique(table, axis=0, return_inverse=True)
    fronts: list[list[int]] = []
    ranks = np.empty(len(rows), dtype=np.int64)
    for i, row in enumerate(rows):

        def beaten(front: list[int], row: Floats = row) -> bool:
            return bool((rows[front] <= row).all(axis=1).any())

        ranks[i] = bisect_left(fronts, True, key=lambda front: not beaten(front))
        if ranks[i] == len(fronts):
            fronts.append([])
        fronts[ranks[i]].append(i)
    return ranks[places.reshape(-1)]


def crowding(table: Floats, ranks: npt.NDArray[np.int64]) -> Floats:
    """Crowding distance of each row within its front: the more room around it the larger; infinite at the ends."""
    distances = np.zeros(len(table))
    for rank in np.unique(ranks):
        members = np.flatnonzero(ranks == rank)
        for column in table.T:
            order = members[np.argsort(column[members], kind="stable")]
            span = column[order[-1]] - column[order[0]]
            distances[order[[0, -1]]] = math.inf
            if span > 0:
                distances[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / span
    return distances

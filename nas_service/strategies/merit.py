"""Which of two trials is better, whatever they ended as and however many objectives there are."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from nas_service.strategies.protocol import Objective, ObservedTrial

Floats = npt.NDArray[np.float64]
NO_RESULT = 2.0
"""Keys of trials with a result begin with less."""


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
            keys[i] = (NO_RESULT, violation(trial), 0.0, 0.0)
        else:
            keys[i] = (NO_RESULT + 1, 0.0, 0.0, 0.0)
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


class Ranking:
    """Trials in the order of ``classes``, as they come in. With one objective a new trial takes its place among the
    others in microseconds; with several all are ordered anew."""

    def __init__(self, objectives: Sequence[Objective], trials: Sequence[ObservedTrial] = ()) -> None:
        self._objectives = objectives
        self.trials = list(trials)
        self._sort()

    def _sort(self) -> None:
        self._keys = classes(self.trials, self._objectives)
        self._order = sorted(zip(self._keys, range(len(self._keys)), strict=True))

    def add(self, trial: ObservedTrial) -> None:
        """The next trial."""
        self.trials.append(trial)
        if len(self._objectives) > 1:
            self._sort()
        else:
            self._keys += classes([trial], self._objectives)
            insort(self._order, (self._keys[-1], len(self._keys) - 1))

    def merit(self, index: int) -> float:
        """Share of the other trials that this one beats, ties counted half, 0 to 1: 0.5 for the only trial, 0 for
        one without a result, however many of them there are.
        """
        key, others = self._keys[index], len(self._keys) - 1
        if key[0] >= NO_RESULT or others == 0:
            return 0.0 if key[0] >= NO_RESULT else 0.5
        better, no_worse = bisect_left(self._order, (key, 0)), bisect_right(self._order, (key, others))
        return (others + 1 - no_worse + 0.5 * (no_worse - better - 1)) / others

    def best_first(self) -> Iterator[int]:
        """The trials with a result."""
        return (index for key, index in self._order if key[0] < NO_RESULT)


def merits(trials: Sequence[ObservedTrial], objectives: Sequence[Objective]) -> Floats:
    """Merit of each trial, see ``Ranking.merit``: ``[len(trials)]``."""
    ranking = Ranking(objectives, trials)
    return np.array([ranking.merit(i) for i in range(len(trials))], dtype=np.float64)


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

"""The order of trials, and the front and crowding of several objectives."""

from __future__ import annotations

import math
import random
import tracemalloc

import numpy as np
import pytest

from nas_service.search.ranking import dominates
from nas_service.strategies.merit import Ranking, classes, crowding, front_ranks, has_result, merits
from nas_service.strategies.protocol import Objective, ObservedTrial

UP = (Objective("val_accuracy", "maximize"),)
DOWN = (Objective("loss", "minimize"),)


def trial(state: str, *values: float, epoch: int = 9, violations: tuple[float, ...] = ()) -> ObservedTrial:
    return ObservedTrial(0, (), state, values or None, epoch, violations)  # type: ignore[arg-type]


def test_order_of_endings() -> None:
    best_first = [
        trial("completed", 0.9),
        trial("completed", 0.2),
        trial("pruned", 0.7, epoch=3),
        trial("pruned", 0.5, epoch=3),
        trial("pruned", 0.95, epoch=1),
        trial("infeasible", violations=(0.1, -5.0)),
        trial("completed", 0.99, violations=(0.3,)),
        trial("infeasible"),
        trial("failed"),
    ]
    keys = classes(best_first, UP)
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)
    assert merits(best_first, UP).tolist() == [1.0, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 0.0, 0.0, 0.0, 0.0]


def test_values_that_are_not_finite_are_no_result() -> None:
    for value in (math.nan, math.inf, -math.inf):
        assert not has_result(trial("completed", value), UP)
    assert not has_result(trial("completed"), UP)
    assert merits([trial("completed", math.nan), trial("completed", 0.1)], UP).tolist() == [0.0, 1.0]


def test_direction_and_ties() -> None:
    trials = [trial("completed", v) for v in (1.0, 2.0, 2.0, 3.0)]
    assert merits(trials, UP).tolist() == [0.0, 0.5, 0.5, 1.0]
    assert merits(trials, DOWN).tolist() == [1.0, 0.5, 0.5, 0.0]
    assert merits(trials[:1], UP).tolist() == [0.5]
    assert merits([], UP).tolist() == []


@pytest.mark.parametrize("goals", [UP, DOWN, (UP[0], DOWN[0])])
def test_trials_as_they_come_in_are_ranked_as_if_all_were_known(goals: tuple[Objective, ...]) -> None:
    rng = random.Random(0)
    endings = ("completed", "completed", "pruned", "infeasible", "failed")
    made = [
        trial(rng.choice(endings), *[float(rng.randrange(6)) for _ in goals], epoch=rng.randrange(3)) for _ in range(40)
    ]
    ranking = Ranking(goals)
    for i, one in enumerate(made):
        ranking.add(one)
        assert ranking.merit(i) == Ranking(goals, made[: i + 1]).merit(i) == merits(made[: i + 1], goals)[i]
    keys = classes(made, goals)
    best_first = list(ranking.best_first())
    assert best_first == [i for i in sorted(range(40), key=lambda i: keys[i]) if has_result(made[i], goals)]
    beaten = sum(keys[i] > keys[best_first[0]] for i in range(40))
    assert ranking.merit(best_first[0]) == (beaten + 0.5 * (39 - beaten)) / 39


def test_fronts_and_crowding() -> None:
    table = np.array([[0.0, 3.0], [1.0, 1.0], [3.0, 0.0], [2.0, 2.0], [4.0, 4.0], [1.0, 1.0]])
    ranks = front_ranks(table)
    assert ranks.tolist() == [0, 0, 0, 1, 2, 0]
    distances = crowding(table, ranks)
    assert distances[[0, 2, 3, 4]].tolist() == [math.inf] * 4
    assert 0 < distances[1] + distances[5] < math.inf


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_fronts_are_what_is_left_when_those_before_are_gone(objectives: int) -> None:
    for seed in range(20):
        table = np.random.default_rng(seed).integers(0, 5, (30, objectives)).astype(np.float64)
        left, found = dict(enumerate(table.tolist())), front_ranks(table)
        for rank in range(int(found.max()) + 1):
            front = [i for i, row in left.items() if not any(dominates(other, row) for other in left.values())]
            assert np.flatnonzero(found == rank).tolist() == front
            left = {i: row for i, row in left.items() if i not in front}
        assert not left


def test_the_fronts_of_many_trials_take_little_memory() -> None:
    table = np.random.default_rng(0).random((4000, 2))
    tracemalloc.start()
    assert front_ranks(table).max() > 50
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()


def test_several_objectives_prefer_the_front_then_room() -> None:
    goals = (Objective("val_accuracy", "maximize"), Objective("latency_ms", "minimize"))
    trials = [trial("completed", a, ms) for a, ms in ((0.9, 9.0), (0.85, 8.9), (0.5, 4.0), (0.1, 1.0), (0.4, 8.0))]
    share = merits(trials, goals)
    assert share.argmin() == 4
    assert share[2] > share[1]

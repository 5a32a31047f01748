"""Exhaustive search: everything, once."""

from __future__ import annotations

from collections import Counter

from strategy_tables import ACCURACY, SOMETHING

from nas_service.strategies.decisions import asked
from nas_service.strategies.grid import Grid, GridConfig
from nas_service.strategies.protocol import ObservedTrial, Problem
from search_spaces.architecture import Architecture
from search_spaces.choose import Choose, Question, every


def ask(choose: Choose) -> Architecture:
    """2 + 3 * 2 + 3 * 2 * 2 = 20 samples."""
    depth = choose("depth", (1, 2, 3))
    choose("flag", (True, 1))
    if depth > 1:
        choose("width", (8, 16, 32))
    if depth > 2:
        choose("last", ("a", "b"))
    return SOMETHING


SETTING = Problem(ask, (ACCURACY,), seed=3, max_trials=None, max_epochs=1)
ALL = Counter(repr(questions) for questions, _ in every(ask))


def test_every_sample_once_in_an_order_that_the_seed_decides() -> None:
    orders = []
    for seed in (3, 4):
        setting = Problem(ask, (ACCURACY,), seed, None, 1)
        grid = Grid(GridConfig(), setting)
        order = []
        for number in range(20):
            questions = asked(setting, grid.propose(number))
            order.append(repr(questions))
            grid.observe(ObservedTrial(number, questions, "failed", None, None))
        assert Counter(order) == ALL
        orders.append(order)
    assert orders[0] != orders[1]


def test_every_sample_once_while_others_run() -> None:
    grid = Grid(GridConfig(), SETTING)
    found: Counter[str] = Counter()
    running: dict[int, tuple[Question, ...]] = {}
    for number in range(20):
        running[number] = asked(SETTING, grid.propose(number, running))
        found[repr(running[number])] += 1
        if len(running) == 5:
            first = min(running)
            grid.observe(ObservedTrial(first, running.pop(first), "completed", (1.0,), 1))
    assert found == ALL
    assert asked(SETTING, grid.propose(20, running))  # nothing is left: a repeat

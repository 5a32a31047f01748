"""Local search: what is stepped from, and when the search moves on."""

from __future__ import annotations

import pytest
from strategy_tables import ACCURACY, SOMETHING

from nas_service.strategies.decisions import asked
from nas_service.strategies.local import LocalConfig, LocalSearch
from nas_service.strategies.protocol import ObservedTrial, Problem
from search_spaces.architecture import Architecture
from search_spaces.choose import Choose, Question, replay

Digits = tuple[int, ...]


def ask(choose: Choose) -> Architecture:
    for place in range(3):
        choose(f"digit{place}", (0, 1, 2, 3))
    return SOMETHING


SETTING = Problem(ask, (ACCURACY,), seed=0, max_trials=None, max_epochs=1)


def sample(*digits: int) -> tuple[Question, ...]:
    return asked(SETTING, replay({f"digit{place}": digit for place, digit in enumerate(digits)}))


def digits(questions: tuple[Question, ...]) -> Digits:
    return tuple(int(q.answer) for q in questions)


def local() -> LocalSearch:
    return LocalSearch(LocalConfig(initial=1), SETTING)


def neighbours(of: Digits) -> set[Digits]:
    return {(*of[:i], digit, *of[i + 1 :]) for i in range(3) for digit in range(4) if digit != of[i]}


def observe(strategy: LocalSearch, number: int, at: Digits, value: float) -> None:
    strategy.observe(ObservedTrial(number, sample(*at), "completed", (value,), 1))


def test_all_neighbours_of_the_best_then_those_of_the_next_best() -> None:
    strategy = local()
    observe(strategy, 0, (0, 0, 0), 9.0)
    observe(strategy, 1, (3, 3, 3), 5.0)
    proposed = []
    for number in range(2, 20):
        proposed.append(digits(asked(SETTING, strategy.propose(number))))
        observe(strategy, number, proposed[-1], 1.0)
    assert set(proposed[:9]) == neighbours((0, 0, 0))
    assert set(proposed[9:]) == neighbours((3, 3, 3))
    assert proposed[:9] != sorted(proposed[:9])


def test_the_first_better_neighbour_is_stepped_to() -> None:
    strategy = local()
    observe(strategy, 0, (0, 0, 0), 1.0)
    better = digits(asked(SETTING, strategy.propose(1)))
    observe(strategy, 1, better, 2.0)
    following = digits(asked(SETTING, strategy.propose(2)))
    assert following in neighbours(better)


def test_parallel_trials_share_the_neighbours_out() -> None:
    strategy = local()
    observe(strategy, 0, (0, 0, 0), 9.0)
    observe(strategy, 1, (3, 3, 3), 5.0)
    running: dict[int, tuple[Question, ...]] = {}
    for number in range(2, 14):
        running[number] = asked(SETTING, strategy.propose(number, running))
    found = [digits(questions) for questions in running.values()]
    assert set(found[:9]) == neighbours((0, 0, 0))
    assert set(found[9:]) < neighbours((3, 3, 3))


@pytest.mark.parametrize("state", ["infeasible", "failed"])
def test_a_trial_without_a_result_is_not_stepped_from(state: str) -> None:
    strategy = local()
    observe(strategy, 0, (3, 3, 3), 5.0)
    strategy.observe(ObservedTrial(1, sample(0, 0, 0), state, None, None))  # type: ignore[arg-type]
    assert digits(asked(SETTING, strategy.propose(2))) in neighbours((3, 3, 3))


def test_every_sample_in_the_end() -> None:
    strategy = local()
    found = set()
    for number in range(64):
        found.add(digits(asked(SETTING, strategy.propose(number))))
        observe(strategy, number, digits(asked(SETTING, strategy.propose(number))), float(number % 7))
    assert len(found) == 64


def ask_conditional(choose: Choose) -> Architecture:
    if choose("deep", (False, True)):
        choose("width", (8, 16, 32))
    choose("kernel", (3, 5))
    return SOMETHING


def test_questions_that_a_step_brings_up_are_answered() -> None:
    setting = Problem(ask_conditional, (ACCURACY,), seed=0, max_trials=None, max_epochs=1)
    strategy = LocalSearch(LocalConfig(initial=1), setting)
    shallow = asked(setting, replay({"deep": False, "kernel": 3}))
    strategy.observe(ObservedTrial(0, shallow, "completed", (1.0,), 1))
    found = []
    for number in (1, 2):
        found.append({q.name: q.answer for q in asked(setting, strategy.propose(number))})
        strategy.observe(ObservedTrial(number, asked(setting, strategy.propose(number)), "failed", None, None))
    assert sorted(len(decisions) for decisions in found) == [2, 3]
    assert {decisions["kernel"] for decisions in found if decisions["deep"]} == {3}

"""Regularised evolution: who may be a parent, and for how long."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from pydantic import ValidationError
from strategy_tables import ACCURACY, SOMETHING

from nas_service.strategies.decisions import asked
from nas_service.strategies.evolution import EvolutionConfig, RegularisedEvolution
from nas_service.strategies.protocol import ObservedTrial, Problem
from search_spaces.architecture import Architecture, Node
from search_spaces.choose import Choose, Question, replay

DIGITS = tuple(range(10))


def ask(choose: Choose) -> Architecture:
    for place in range(4):
        choose(f"digit{place}", DIGITS)
    return SOMETHING


SETTING = Problem(ask, (ACCURACY,), seed=0, max_trials=None, max_epochs=1)


def sample(*digits: int) -> tuple[Question, ...]:
    return asked(SETTING, replay({f"digit{place}": digit for place, digit in enumerate(digits)}))


def changed(one: tuple[Question, ...], two: tuple[Question, ...]) -> int:
    return sum(a.answer != b.answer for a, b in zip(one, two, strict=True))


def evolution(population: int, rivals: int) -> RegularisedEvolution:
    return RegularisedEvolution(EvolutionConfig(population=population, sample=rivals, crossover=0), SETTING)


def test_child_of_the_best_differs_in_one_decision() -> None:
    strategy = evolution(4, 4)
    for number in range(4):
        strategy.observe(ObservedTrial(number, sample(*[number] * 4), "completed", (float(number % 3),), 1))
    children = [asked(SETTING, strategy.propose(number)) for number in range(4, 30)]
    assert {changed(child, sample(2, 2, 2, 2)) for child in children} == {1}
    assert len(set(children)) > 15


@pytest.mark.parametrize("state", ["infeasible", "failed", "completed"])
def test_without_a_result_no_trial_is_a_parent(state: str) -> None:
    """The completed one here has no finite value."""
    strategy = evolution(4, 1)  # the parent is anyone of the population
    for number in range(3):
        values = (float("nan"),) if state == "completed" else None
        strategy.observe(ObservedTrial(number, sample(*[number] * 4), state, values, 1))  # type: ignore[arg-type]
    strategy.observe(ObservedTrial(3, sample(9, 9, 9, 9), "pruned", (0.0,), 1))
    children = [asked(SETTING, strategy.propose(number)) for number in range(4, 30)]
    assert {changed(child, sample(9, 9, 9, 9)) for child in children} == {1}


def test_the_oldest_is_forgotten_however_good() -> None:
    strategy = evolution(3, 3)
    strategy.observe(ObservedTrial(0, sample(9, 9, 9, 9), "completed", (100.0,), 1))
    for number in range(1, 4):
        strategy.observe(ObservedTrial(number, sample(*[number] * 4), "completed", (float(number),), 1))
    assert changed(asked(SETTING, strategy.propose(4)), sample(3, 3, 3, 3)) == 1


def test_tried_decisions_are_not_proposed_again() -> None:
    strategy = evolution(2, 2)
    strategy.observe(ObservedTrial(0, sample(1, 1, 1, 1), "completed", (1.0,), 1))
    neighbours = {(*[1] * place, digit, *[1] * (3 - place)) for place in range(4) for digit in DIGITS if digit != 1}
    for number, digits in enumerate(sorted(neighbours - {(1, 1, 7, 1)}), 1):
        strategy.observe(ObservedTrial(number, sample(*digits), "failed", None, None))
    tried = {sample(*digits) for digits in neighbours - {(1, 1, 7, 1)}} | {sample(1, 1, 1, 1)}
    restored = evolution(2, 2)
    restored.restore(strategy.snapshot())
    for lived in (strategy, restored):
        assert not tried & {asked(SETTING, lived.propose(number)) for number in range(100, 120)}


def test_first_population_is_random() -> None:
    strategy = evolution(10, 2)
    strategy.observe(ObservedTrial(0, sample(5, 5, 5, 5), "completed", (1.0,), 1))
    proposed = [asked(SETTING, strategy.propose(number)) for number in range(1, 10)]
    assert min(changed(one, sample(5, 5, 5, 5)) for one in proposed) >= 2


def test_sample_larger_than_the_population_is_refused() -> None:
    with pytest.raises(ValidationError, match="sample 5; allowed: 1 to population, 4"):
        EvolutionConfig(population=4, sample=5)


def test_parents_are_told_where_children_inherit() -> None:
    """The trial whose decisions the child has but for one; none for random ones, and where nothing is inherited."""
    config = EvolutionConfig(population=4, sample=2, crossover=0, inherit_weights=True)
    strategy, without = RegularisedEvolution(config, SETTING), evolution(4, 2)
    known = {}
    for number in range(4):
        assert strategy.parent(number) is None
        questions = asked(SETTING, strategy.propose(number))
        known[number] = questions
        for each in (strategy, without):
            each.observe(ObservedTrial(number, questions, "completed", (number / 10,), 1))
    parents = set()
    for number in range(4, 30):
        parent = strategy.parent(number)
        assert parent is not None
        parents.add(parent)
        assert changed(known[parent], asked(SETTING, strategy.propose(number))) == 1
        assert without.parent(number) is None
        assert asked(SETTING, without.propose(number)) == asked(SETTING, strategy.propose(number))
    assert parents == {1, 2, 3}, "the worst of four never wins against another"


def test_crossed_children_have_answers_of_both_parents() -> None:
    strategy = RegularisedEvolution(EvolutionConfig(population=2, sample=1, crossover=1), SETTING)
    for number in range(2):
        strategy.observe(ObservedTrial(number, sample(*[number] * 4), "completed", (1.0,), 1))
    children = [asked(SETTING, strategy.propose(number)) for number in range(2, 80)]
    answers = [[q.answer for q in child] for child in children]
    assert all(sum(answer not in (0, 1) for answer in child) <= 1 for child in answers)
    assert sum({0, 1} <= set(child) for child in answers) > 20


def ask_described(choose: Choose) -> Architecture:
    """An architecture that tells its answers."""
    return replace(SOMETHING, nodes=(Node("digits", (0,), {f"d{i}": choose(f"digit{i}", DIGITS) for i in range(4)}),))


def test_the_best_child_by_zero_cost_scores_is_trained() -> None:
    def size(architecture: Architecture) -> dict[str, float]:
        return {"size": float(sum(int(str(value)) for value in architecture.nodes[0].args.values()))}

    blind = Problem(ask_described, (ACCURACY,), seed=0, max_trials=None, max_epochs=1)
    means = []
    for setting in (blind, replace(blind, scores=size), replace(blind, scores=lambda _: {"size": math.nan})):
        strategy = RegularisedEvolution(EvolutionConfig(candidates=8, crossover=0), setting)
        proposed = [asked(setting, strategy.propose(number)) for number in range(60)]
        means.append(sum(int(str(q.answer)) for questions in proposed for q in questions) / 240)
    assert means[1] > means[0] + 1.5
    assert means[2] == means[0], "a score that tells nothing changes nothing"

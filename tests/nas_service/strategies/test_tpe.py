"""Optuna's side of a strategy: what its study is told."""

from __future__ import annotations

import logging
from collections import Counter

import optuna
import pytest
from optuna.trial import TrialState
from strategy_tables import ACCURACY, conditional, problem

from nas_service.strategies.decisions import asked
from nas_service.strategies.optuna_sampler import OptunaStrategy, told
from nas_service.strategies.protocol import Objective, ObservedTrial, Problem
from nas_service.strategies.tpe import TpeConfig, tpe
from search_spaces.choose import Question

TOY = conditional()
QUESTIONS = (Question("kernel", (3, 5), 5), Question("only", (1,), 1), Question("flag", (True, 1), 1))
ONE = problem(TOY, 0)
TWO = Problem(TOY.ask, (ACCURACY, Objective("latency_ms", "minimize")), 0, None, 9)


def study_of(strategy: OptunaStrategy) -> optuna.Study:
    return strategy._study


def test_completed() -> None:
    trial = told(ObservedTrial(4, QUESTIONS, "completed", (0.5,), 9, (-1.0,)), ONE)
    assert (trial.state, trial.values, trial.params) == (TrialState.COMPLETE, [0.5], {"kernel": 1, "flag": 1})
    assert trial.constraints == {"0": -1.0}
    assert told(ObservedTrial(4, QUESTIONS, "completed", (0.5, 3.0), 9), TWO).values == [0.5, 3.0]


def test_pruned() -> None:
    trial = told(ObservedTrial(4, QUESTIONS, "pruned", (0.5,), 3), ONE)
    assert (trial.state, trial.intermediate_values, trial.constraints) == (TrialState.PRUNED, {3: 0.5}, {})
    # Optuna raises when it finds an intermediate value in a study with several objectives.
    assert told(ObservedTrial(4, QUESTIONS, "pruned", (0.5, 3.0), 3), TWO).intermediate_values == {}


def test_trials_without_a_result_rank_behind_the_least_feasible() -> None:
    sums = [
        sum(violation for violation in told(trial, ONE).constraints.values() if violation > 0)
        for trial in (
            ObservedTrial(0, QUESTIONS, "completed", (0.5,), 9),
            ObservedTrial(1, QUESTIONS, "infeasible", None, None, (3.0, -1.0)),
            ObservedTrial(2, QUESTIONS, "infeasible", None, None, (1e30, float("nan"))),
            ObservedTrial(3, QUESTIONS, "infeasible", None, None),
            ObservedTrial(4, QUESTIONS, "failed", None, None),
        )
    ]
    assert sums == sorted(sums)
    assert len(set(sums)) == 5
    assert told(ObservedTrial(5, QUESTIONS, "completed", (float("nan"),), 1), ONE).constraints["failed"] == sums[-1]


def test_what_runs_is_running_in_the_study() -> None:
    strategy = tpe(TpeConfig(), ONE)
    running = {number: asked(ONE, strategy.propose(number)) for number in range(3)}

    def states() -> Counter[TrialState]:
        return Counter(trial.state for trial in study_of(strategy).trials if trial.state != TrialState.FAIL)

    strategy.propose(3, running)
    strategy.propose(3, running)
    assert states() == {TrialState.RUNNING: 3}
    strategy.observe(ObservedTrial(1, running.pop(1), "completed", (1.0,), 9))
    strategy.observe(ObservedTrial(7, running[0], "failed", None, None))
    assert states() == {TrialState.RUNNING: 2, TrialState.COMPLETE: 1, TrialState.PRUNED: 1}
    strategy.propose(3, {0: running[0]})
    assert states() == {TrialState.RUNNING: 1, TrialState.COMPLETE: 1, TrialState.PRUNED: 1}


def test_running_trials_are_kept_away_from() -> None:
    """The constant liar: what is being tried counts as bad until it is known, so that parallel trials spread."""
    strategy = tpe(TpeConfig(startup_trials=5, attempts=1), ONE)
    for number in range(20):
        questions = asked(ONE, strategy.propose(number))
        value = TOY.score({q.name: q.answer for q in questions})
        strategy.observe(ObservedTrial(number, questions, "completed", (value,), 9))
    running: dict[int, tuple[Question, ...]] = {}
    for number in range(20, 50):
        running[number] = asked(ONE, strategy.propose(number, running))
    apart = {asked(ONE, strategy.propose(number)) for number in range(20, 50)}
    assert len(set(running.values())) > len(apart)


def test_repeats_are_replaced_unless_allowed() -> None:
    def distinct(config: TpeConfig) -> int:
        strategy = tpe(config, ONE)
        found = set()
        for number in range(60):
            questions = asked(ONE, strategy.propose(number))
            found.add(questions)
            strategy.observe(ObservedTrial(number, questions, "completed", (float(len(questions)),), 9))
        return len(found)

    assert distinct(TpeConfig(attempts=1)) < 60
    assert distinct(TpeConfig(attempts=2)) == 60


def test_optuna_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    optuna.logging.enable_propagation()
    try:
        with caplog.at_level(logging.INFO):
            strategy = tpe(TpeConfig(), ONE)
            strategy.observe(ObservedTrial(0, asked(ONE, strategy.propose(0)), "failed", None, None))
    finally:
        optuna.logging.disable_propagation()
    assert caplog.records == []

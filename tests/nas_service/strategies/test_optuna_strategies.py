"""Optuna's genetic algorithm and Gaussian process: what follows from the trials, and what they are shown."""

from __future__ import annotations

import pytest
from optuna.samplers import RandomSampler
from optuna.trial import TrialState
from strategy_tables import ACCURACY, SOMETHING, conditional, problem

from nas_service.strategies.decisions import asked
from nas_service.strategies.nsga2 import Nsga2Config, nsga2
from nas_service.strategies.optuna_sampler import OptunaStrategy
from nas_service.strategies.protocol import Objective, ObservedTrial, Problem
from search_spaces.architecture import Architecture
from search_spaces.choose import Choose

TOY = conditional()
TWO = (ACCURACY, Objective("latency_ms", "minimize"))


@pytest.mark.parametrize(("max_trials", "size"), [(100, 20), (199, 20), (200, 50), (None, 50)])
def test_population_goes_by_the_budget(max_trials: int | None, size: int) -> None:
    assert Nsga2Config().size(max_trials) == size
    assert Nsga2Config(population=7).size(max_trials) == 7


def ask_bits(choose: Choose) -> Architecture:
    for i in range(8):
        choose(f"bit{i}", (0, 1, 2, 3))
    return SOMETHING


def test_children_come_from_the_front() -> None:
    """Both objectives want zeros in four places, and they disagree about the other four: zeros win in the first."""
    setting = Problem(ask_bits, TWO, seed=0, max_trials=100, max_epochs=1)
    strategy = nsga2(Nsga2Config(), setting)
    sums = []
    for number in range(100):
        questions = asked(setting, strategy.propose(number))
        bits = [int(q.answer) for q in questions]
        sums.append(sum(bits[:4]))
        values = (float(-sum(bits[:4]) + sum(bits[4:])), float(sum(bits[:4]) + sum(bits[4:])))
        strategy.observe(ObservedTrial(number, questions, "completed", values, 1))
    assert sum(sums[:20]) / 20 > 4.5
    assert sum(sums[80:]) / 20 < 3.0


def test_memory_is_the_best_and_the_latest() -> None:
    setting = problem(TOY, seed=0)
    strategy = OptunaStrategy("random", setting, lambda seed: RandomSampler(seed), attempts=1, memory=6)
    for number, value in enumerate([9.0, 1.0, 2.0, 8.0, 3.0, 7.0, 4.0, 5.0, 6.5]):
        strategy.observe(ObservedTrial(number, asked(setting, strategy.propose(number)), "completed", (value,), 9))
    running = {9: asked(setting, strategy.propose(9))}
    strategy.propose(10, running)
    shown = strategy._excerpt(6).get_trials(deepcopy=False)
    assert [trial.value for trial in shown if trial.state == TrialState.COMPLETE] == [9.0, 8.0, 7.0, 4.0, 5.0, 6.5]
    assert sum(trial.state == TrialState.RUNNING for trial in shown) == 1

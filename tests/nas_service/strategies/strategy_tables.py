"""A made-up space with conditions whose trials cost nothing: to measure search quality in seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nas_service.strategies import STRATEGIES
from nas_service.strategies.protocol import Objective, ObservedTrial, Problem, Strategy, StrategyConfig
from search_spaces.architecture import Architecture, Node, Task
from search_spaces.choose import Choose, Recorder

ACCURACY = Objective("val_accuracy", "maximize")
SOMETHING = Architecture(Task((1, 8, 8), 10), (Node("linear", (0,)),))
"""Strategies see decisions only; a table needs no network."""


@dataclass(frozen=True)
class Table:
    """``ask`` poses the questions, ``score`` looks the decisions up; ``best`` is the best score there is, in points."""

    ask: Callable[[Choose], Architecture]
    score: Callable[[dict[str, object]], float]
    best: float


def conditional(seed: int = 0) -> Table:
    """A small made-up space with conditions: depth 1 to 4, a kernel and a width each layer, pairs that fit together."""
    rng = np.random.default_rng(seed)
    kernel = rng.normal(size=(4, 3))
    width = rng.normal(size=(4, 4))
    pair = rng.normal(size=(4, 3, 4)) * 0.7
    kernels, widths = (3, 5, 7), (8, 16, 32, 64)

    def ask(choose: Choose) -> Architecture:
        for layer in range(choose("depth", (1, 2, 3, 4))):
            choose(f"layer{layer}.kernel", kernels)
            choose(f"layer{layer}.width", widths)
        return SOMETHING

    def score(decisions: dict[str, object]) -> float:
        total = 0.0
        for layer in range(int(str(decisions["depth"]))):
            k = kernels.index(int(str(decisions[f"layer{layer}.kernel"])))
            w = widths.index(int(str(decisions[f"layer{layer}.width"])))
            total += kernel[layer, k] + width[layer, w] + pair[layer, k, w]
        return float(total)

    peaks = (kernel[:, :, None] + width[:, None, :] + pair).max(axis=(1, 2))
    return Table(ask, score, float(np.cumsum(peaks).max()))


def problem(table: Table, seed: int, max_trials: int | None = 100) -> Problem:
    return Problem(table.ask, (ACCURACY,), seed, max_trials, max_epochs=9)


def run(table: Table, strategy: Strategy, evaluations: int) -> list[float]:
    """Regret in points after each of ``evaluations`` distinct trainings; repeats are told with the known result."""
    known: dict[str, float] = {}
    regrets: list[float] = []
    number = 0
    while len(regrets) < evaluations and number < 3 * evaluations:
        recorder = Recorder(strategy.propose(number))
        table.ask(recorder)
        decisions = dict(sorted(recorder.decisions.items()))
        key = repr(decisions)
        repeat = key in known
        known.setdefault(key, table.score(dict(decisions)))
        questions = tuple(recorder.questions)
        strategy.observe(ObservedTrial(number, questions, "completed", (known[key],), 9, reused=repeat))
        if not repeat:
            regrets.append(table.best - max(known.values()))
        number += 1
    return regrets + [regrets[-1]] * (evaluations - len(regrets))


def regrets(
    table: Table, name: str, seeds: range, evaluations: int, config: StrategyConfig | None = None
) -> np.ndarray:
    """Regret of strategy ``name``: ``[len(seeds), evaluations]``."""
    entry = STRATEGIES[name]
    options = config if config is not None else entry.config()
    return np.array([run(table, entry.make(options, problem(table, seed)), evaluations) for seed in seeds])

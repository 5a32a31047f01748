"""Strategies find better architectures than random search: on made-up tables, and on those of trained networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from strategy_tables import conditional, regrets

from nas_service.benchmark.simulation import simulate
from nas_service.strategies import STRATEGIES
from nas_service.strategies.evolution import EvolutionConfig
from tests.nas_service.benchmark.made_tables import made_table
from workers.tables import Table, load_table

NOT_LEARNING = {"random", "grid"}
"""The yardstick, and what enumerates: neither learns from results."""
LEARNING = sorted(set(STRATEGIES) - NOT_LEARNING)
SEEDS = {"tpe": 8, "rl": 8, "gp": 4, "predictor": 6, "auto": 6}
"""Runs of a strategy where they are slow; 12 of the others."""
EVALUATIONS = {"nsga2": 150, "gp": 30}
"""Networks that a run trains where they are not 80: NSGA-II, made for several objectives, needs more of them, Optuna's
Gaussian process takes a tenth of a second for each."""
RUNS = {"tpe": 3, "rl": 3, "gp": 1, "predictor": 2, "auto": 2}
"""The same on the large tables; 8 of the others."""
STUDENT = {4: 3.182, 6: 2.571, 8: 2.365, 10: 2.262, 12: 2.201}
"""Student's t for p < 0.05, two-sided, by the number of runs."""
MADE = {"additive": made_table(0, 0.0), "interacting": made_table(1, 1.0)}


def paired_t(worse: np.ndarray, better: np.ndarray) -> float:
    """Student's t of the paired differences ``worse - better``."""
    differences = worse - better
    return float(differences.mean() / (differences.std(ddof=1) / np.sqrt(len(differences))))


def late_regret(table: Table, name: str, seeds: int, evaluations: int) -> np.ndarray:
    """[seeds] mean regret over the later half of the evaluations, one noisy training each."""
    runs = [simulate(table, STRATEGIES[name], None, seed, evaluations, noisy=True) for seed in range(seeds)]
    return np.array([np.mean(run.regret[evaluations // 2 :]) for run in runs])


@pytest.mark.parametrize("made", MADE)
@pytest.mark.parametrize("name", LEARNING)
def test_beats_random_on_made_tables(name: str, made: str) -> None:
    seeds, evaluations = SEEDS.get(name, 12), EVALUATIONS.get(name, 80)
    found, at_random = (late_regret(MADE[made], strategy, seeds, evaluations) for strategy in (name, "random"))
    assert paired_t(at_random, found) > STUDENT[seeds]


@pytest.mark.parametrize("name", sorted(set(LEARNING) - {"gp"}))  # its model has only what every trial was asked
def test_beats_random_on_a_conditional_space(name: str) -> None:
    seeds, trials = SEEDS.get(name, 12), {"nsga2": 120}.get(name, 60)
    found, at_random = (
        regrets(conditional(), strategy, range(seeds), trials)[:, trials // 2 :].mean(axis=1)
        for strategy in (name, "random")
    )
    assert paired_t(at_random, found) > STUDENT[seeds]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == "gp" else name for name in LEARNING]
)
@pytest.mark.parametrize(("file", "limit"), [("nasbench201_cifar10.npz", 0.35), ("nasbench_macro.csv", 0.12)])
def test_beats_random_on_trained_networks(name: str, file: str, limit: float, shared: Path) -> None:
    """Mean regret in points after 100 networks; the benchmark's 100 seeds reach about half of ``limit``."""
    table = load_table(shared / "benchmarks" / file)

    def regret(strategy: str, runs: int) -> float:
        return float(np.mean([simulate(table, STRATEGIES[strategy], None, i, 100).regret[-1] for i in range(runs)]))

    found = regret(name, RUNS.get(name, 8))
    assert found < limit
    assert found < 0.7 * regret("random", 16)


def test_options_matter() -> None:
    """A population that is never selected from is random search with small steps: the comparisons above can fail."""
    idle = EvolutionConfig(population=20, sample=1)
    found = regrets(conditional(), "evolution", range(10), 60, idle)
    at_random = regrets(conditional(), "random", range(10), 60)
    assert paired_t(at_random[:, 30:].mean(axis=1), found[:, 30:].mean(axis=1)) < STUDENT[10]

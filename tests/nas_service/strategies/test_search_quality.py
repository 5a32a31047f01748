"""Strategies find better architectures than random search, on tables of finished trainings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from strategy_tables import Table, conditional, nas_bench_201, nas_bench_macro, regrets

from nas_service.strategies.evolution import EvolutionConfig

LEARNING = ("tpe", "evolution", "local", "rl")
SEEDS = range(10)
RUNS = {"tpe": 3, "evolution": 16, "local": 16, "rl": 3}
"""Seeds on the large tables: as many as seconds allow."""
SIGNIFICANT = 2.26
"""Student's t for p < 0.05, two-sided, 9 degrees of freedom."""


def paired_t(worse: np.ndarray, better: np.ndarray) -> float:
    """Student's t of the paired differences ``worse - better``."""
    differences = worse - better
    return float(differences.mean() / (differences.std(ddof=1) / np.sqrt(len(differences))))


@pytest.fixture(scope="module")
def random_on_toy() -> np.ndarray:
    return regrets(conditional(), "random", SEEDS, 60)


@pytest.mark.parametrize("name", LEARNING)
def test_beats_random_on_a_conditional_space(name: str, random_on_toy: np.ndarray) -> None:
    found = regrets(conditional(), name, SEEDS, 60)
    assert paired_t(random_on_toy[:, 30:].mean(axis=1), found[:, 30:].mean(axis=1)) > SIGNIFICANT


@pytest.mark.parametrize("name", LEARNING)
@pytest.mark.parametrize(("load", "limit"), [(nas_bench_201, 0.35), (nas_bench_macro, 0.08)])
def test_beats_random_on_trained_networks(name: str, load: object, limit: float, shared: Path) -> None:
    """Mean regret in points after 100 trainings; 30 seeds reach about half of ``limit``."""
    assert callable(load)
    table: Table = load(shared)
    found = regrets(table, name, range(RUNS[name]), 100)[:, -1]
    at_random = regrets(table, "random", range(16), 100)[:, -1]
    assert found.mean() < limit
    assert found.mean() < 0.7 * at_random.mean()


def test_options_matter(random_on_toy: np.ndarray) -> None:
    """A population that is never selected from is random search with small steps: the comparison above can fail."""
    found = regrets(conditional(), "evolution", SEEDS, 60, EvolutionConfig(population=20, sample=1))
    assert paired_t(random_on_toy[:, 30:].mean(axis=1), found[:, 30:].mean(axis=1)) < SIGNIFICANT

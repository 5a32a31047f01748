"""Strategies: what to try next. A strategy is one file, and one line in ``STRATEGIES``."""

from __future__ import annotations

from importlib.metadata import entry_points

from nas_service.strategies.evolution import EvolutionConfig, RegularisedEvolution
from nas_service.strategies.protocol import (
    Figures,
    Objective,
    ObservedTrial,
    Problem,
    Strategy,
    StrategyConfig,
    StrategyEntry,
)
from nas_service.strategies.random import RandomConfig, RandomSearch
from nas_service.strategies.rl import RlConfig, RlController
from nas_service.strategies.tpe import TpeConfig, tpe

__all__ = [
    "STRATEGIES",
    "Figures",
    "Objective",
    "ObservedTrial",
    "Problem",
    "Strategy",
    "StrategyConfig",
    "StrategyEntry",
    "strategy",
]

BUILT_IN = (
    StrategyEntry(
        "random",
        "Uniform random search, without repeats: the yardstick.",
        "Bergstra and Bengio, JMLR 13, 2012",
        RandomConfig,
        RandomSearch,
    ),
    StrategyEntry(
        "tpe",
        "Models which decisions good trials share, with Optuna's multivariate TPE.",
        "Bergstra et al., NeurIPS 2011; Optuna",
        TpeConfig,
        tpe,
    ),
    StrategyEntry(
        "evolution",
        "Mutates the best of a few recent trials and forgets the oldest.",
        "Real et al., AAAI 2019, arXiv 1802.01548",
        EvolutionConfig,
        RegularisedEvolution,
    ),
    StrategyEntry(
        "rl",
        "A recurrent controller that learns which answers lead to good trials, by policy gradient.",
        "Zoph and Le, ICLR 2017, arXiv 1611.01578; Williams, Machine Learning 8, 1992",
        RlConfig,
        RlController,
    ),
)


def _installed() -> dict[str, StrategyEntry]:
    """Built-in strategies and those of installed plug-ins. Raises ValueError where two have one name."""
    found = {entry.name: entry for entry in BUILT_IN}
    for point in entry_points(group="nas.strategies"):
        entry = point.load()
        if not isinstance(entry, StrategyEntry):
            raise ValueError(f"entry point {point.value!r} is a {type(entry).__name__}; allowed: a StrategyEntry")
        if entry.name in found:
            raise ValueError(f"entry point {point.value!r} has the name {entry.name!r}, which is taken")
        found[entry.name] = entry
    return found


STRATEGIES: dict[str, StrategyEntry] = _installed()


def strategy(name: str) -> StrategyEntry:
    """The strategy called ``name``. Raises ValueError that lists the names there are."""
    if name not in STRATEGIES:
        raise ValueError(f"strategy {name!r}; allowed: {sorted(STRATEGIES)}")
    return STRATEGIES[name]

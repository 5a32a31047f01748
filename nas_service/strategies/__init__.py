"""Strategies: what to try next. A strategy is one file, and one line in ``STRATEGIES``."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points

from nas_service.strategies.auto import Auto, AutoConfig
from nas_service.strategies.evolution import EvolutionConfig, RegularisedEvolution
from nas_service.strategies.gp import GpConfig, gp
from nas_service.strategies.grid import Grid, GridConfig
from nas_service.strategies.local import LocalConfig, LocalSearch
from nas_service.strategies.nsga2 import Nsga2Config, nsga2
from nas_service.strategies.predictor import Predictor, PredictorConfig
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
from nas_service.strategies.rl import RlController
from nas_service.strategies.rl_presets import RlConfig
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
        "auto",
        "The default: model-guided search that starts from zero-cost scores, as far as they prove themselves.",
        "Abdelfattah et al., ICLR 2021, arXiv 2101.08134; White et al., AAAI 2021, arXiv 1910.11858",
        AutoConfig,
        Auto,
    ),
    StrategyEntry(
        "random",
        "Uniform random search, without repeats: the yardstick.",
        "Bergstra and Bengio, JMLR 13, 2012",
        RandomConfig,
        RandomSearch,
    ),
    StrategyEntry(
        "grid",
        "Every sample of the space once, in a random order: for spaces that fit the budget.",
        "exhaustive search, as Optuna's brute force",
        GridConfig,
        Grid,
    ),
    StrategyEntry(
        "tpe",
        "Models which decisions good trials share, with Optuna's multivariate TPE.",
        "Bergstra et al., NeurIPS 2011; Optuna",
        TpeConfig,
        tpe,
    ),
    StrategyEntry(
        "gp",
        "Optuna's Gaussian process with expected improvement: slow, and weaker on choices than on numbers.",
        "Snoek et al., NeurIPS 2012, arXiv 1206.2944; Optuna",
        GpConfig,
        gp,
    ),
    StrategyEntry(
        "nsga2",
        "Optuna's genetic algorithm for several objectives: crosses and mutates a population.",
        "Deb et al., IEEE Transactions on Evolutionary Computation 6, 2002; Optuna",
        Nsga2Config,
        nsga2,
    ),
    StrategyEntry(
        "evolution",
        "Mutates the best of a few recent trials and forgets the oldest.",
        "Real et al., AAAI 2019, arXiv 1802.01548",
        EvolutionConfig,
        RegularisedEvolution,
    ),
    StrategyEntry(
        "local",
        "Steps to the first neighbour that is better; from a local optimum, on from the next best trial.",
        "White et al., UAI 2021, arXiv 2005.02960",
        LocalConfig,
        LocalSearch,
    ),
    StrategyEntry(
        "rl",
        "A recurrent controller that learns which answers lead to good trials, by policy gradient.",
        "Zoph and Le, ICLR 2017, arXiv 1611.01578; Williams, Machine Learning 8, 1992",
        RlConfig,
        RlController,
    ),
    StrategyEntry(
        "predictor",
        "A Gaussian process over the decisions judges variations of the best trials.",
        "White et al., AAAI 2021, arXiv 1910.11858; Ru et al., ICLR 2021, arXiv 2006.07556",
        PredictorConfig,
        Predictor,
    ),
)


log = logging.getLogger(__name__)
PLUGIN_ERRORS: dict[str, str] = {}
"""Entry points that could not be loaded, and why: one bad plug-in must not take the others with it."""


def with_plugins(own: Iterable[StrategyEntry], points: Iterable[EntryPoint]) -> dict[str, StrategyEntry]:
    """Strategies by name: our own, then those of plug-ins. A plug-in that cannot be used is logged and left out."""
    found = {entry.name: entry for entry in own}
    for point in points:
        problem = None
        try:
            entry = point.load()
        except Exception as error:  # a plug-in may raise anything while it is imported
            problem = f"{type(error).__name__}: {error}"
        else:
            if not isinstance(entry, StrategyEntry):
                problem = f"a {type(entry).__name__}; allowed: a StrategyEntry"
            elif entry.name in found:
                problem = f"name {entry.name!r} is taken"
            else:
                found[entry.name] = entry
        if problem is not None:
            PLUGIN_ERRORS[point.value] = problem
            log.error("strategy of plug-in %s cannot be used: %s", point.value, problem)
    return found


STRATEGIES: dict[str, StrategyEntry] = with_plugins(BUILT_IN, entry_points(group="nas.strategies"))


def strategy(name: str) -> StrategyEntry:
    """The strategy called ``name``. Raises ValueError that lists the names there are."""
    if name not in STRATEGIES:
        raise ValueError(f"strategy {name!r}; allowed: {sorted(STRATEGIES)}")
    return STRATEGIES[name]

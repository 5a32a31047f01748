"""Tree-structured Parzen estimator of Optuna, multivariate. Bergstra et al., NeurIPS 2011."""

from __future__ import annotations

import warnings

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import TPESampler
from pydantic import Field

from nas_service.strategies.optuna_sampler import OptunaStrategy
from nas_service.strategies.protocol import Problem, StrategyConfig


class TpeConfig(StrategyConfig):
    """Options of TPE."""

    startup_trials: int = Field(10, ge=1, le=10_000, description="Random trials before the model is used.")
    candidates: int = Field(
        24, ge=1, le=1000, description="Samples of the model of good trials, of which the most promising is proposed."
    )
    attempts: int = Field(
        3,
        ge=1,
        le=1000,
        description="Proposals drawn in search of a new one, before the last is mutated; 1 allows repeats.",
    )

    def at_random(self, max_trials: int, scored: bool) -> int:
        return self.startup_trials


def tpe(config: TpeConfig, problem: Problem) -> OptunaStrategy:
    """TPE over all questions jointly, in groups that were asked together: what conditional spaces need."""

    def sampler(seed: int) -> TPESampler:
        with warnings.catch_warnings():
            # ``group`` is marked experimental since Optuna 2.8; without it conditional questions are sampled alone.
            warnings.simplefilter("ignore", ExperimentalWarning)
            return TPESampler(
                n_startup_trials=config.startup_trials,
                n_ei_candidates=config.candidates,
                seed=seed,
                multivariate=True,
                group=True,
                constant_liar=True,
            )

    return OptunaStrategy("tpe", problem, sampler, config.attempts)

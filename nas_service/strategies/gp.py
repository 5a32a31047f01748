"""A Gaussian process over all questions, with expected improvement, of Optuna. Snoek et al., NeurIPS 2012."""

from __future__ import annotations

from optuna.samplers import GPSampler
from pydantic import Field

from nas_service.strategies.optuna_sampler import OptunaStrategy
from nas_service.strategies.protocol import Problem, StrategyConfig


class GpConfig(StrategyConfig):
    """Options of the Gaussian process."""

    startup_trials: int = Field(10, ge=1, le=10_000, description="Completed trials before the model is used.")
    memory: int = Field(
        60,
        ge=10,
        le=500,
        description="Completed trials that the model is fitted to: half of them the best, half the latest. Seconds a "
        "proposal grow with its cube.",
    )
    attempts: int = Field(
        2,
        ge=1,
        le=1000,
        description="Proposals drawn in search of a new one, before the last is mutated; 1 allows repeats.",
    )

    def at_random(self, max_trials: int, scored: bool) -> int:
        return self.startup_trials


def gp(config: GpConfig, problem: Problem) -> OptunaStrategy:
    """Matérn kernel with a length scale for each question; log expected improvement, of hypervolume with several
    objectives.

    Slow, and made for numbers more than for choices: ``memory`` bounds the seconds. Questions that were not asked in
    every trial are answered at random.
    """

    def sampler(seed: int) -> GPSampler:
        return GPSampler(seed=seed, n_startup_trials=config.startup_trials, warn_independent_sampling=False)

    return OptunaStrategy("gp", problem, sampler, config.attempts, config.memory)

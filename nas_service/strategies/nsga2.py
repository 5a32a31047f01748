"""NSGA-II of Optuna: a genetic algorithm for several objectives. Deb et al., IEEE Transactions on Evolutionary
Computation 6, 2002."""

from __future__ import annotations

from optuna.samplers import NSGAIISampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from pydantic import Field

from nas_service.strategies.optuna_sampler import OptunaStrategy
from nas_service.strategies.protocol import Problem, StrategyConfig


class Nsga2Config(StrategyConfig):
    """Options of NSGA-II."""

    population: int | None = Field(
        None,
        ge=2,
        le=10_000,
        description="Completed trials in a generation; left empty, 20 for budgets below 200 trials and 50 above.",
    )
    attempts: int = Field(
        3,
        ge=1,
        le=1000,
        description="Proposals drawn in search of a new one, before the last is mutated; 1 allows repeats.",
    )

    def size(self, max_trials: int | None) -> int:
        """Trials in a generation, for a budget of ``max_trials``."""
        if self.population is not None:
            return self.population
        return 50 if max_trials is None or max_trials >= 200 else 20

    def at_random(self, max_trials: int, scored: bool) -> int:
        return self.size(max_trials)


class Generations(NSGAIISampler):
    """Generation g are the completed trials g * population and on, in the order they ended.

    Optuna writes the generation of a trial down when it is asked for; here it follows from the trials alone, so that
    the strategy can be rebuilt from them.
    """

    def get_trial_generation(self, study: Study, trial: FrozenTrial) -> int:
        return len(self._completed(study)) // self._size

    def get_population(self, study: Study, generation: int) -> list[FrozenTrial]:
        return self._completed(study)[generation * self._size : (generation + 1) * self._size]

    def get_parent_population(self, study: Study, generation: int) -> list[FrozenTrial]:
        """In the order that they ended, whether Optuna selects them now or remembers them."""
        return sorted(super().get_parent_population(study, generation), key=lambda parent: parent.number)

    @property
    def _size(self) -> int:
        assert self.population_size is not None
        return self.population_size

    def _completed(self, study: Study) -> list[FrozenTrial]:
        return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def nsga2(config: Nsga2Config, problem: Problem) -> OptunaStrategy:
    """Children are crossed from two good parents of the last generations (0.9), then mutated in one answer on average.

    Questions that were not asked in every trial are answered at random: crossover needs answers in all of them.
    """
    population = config.size(problem.max_trials)
    return OptunaStrategy(
        "nsga2", problem, lambda seed: Generations(population_size=population, seed=seed), config.attempts
    )

"""Regularised evolution: mutate the best of a few, forget the oldest. Real et al., AAAI 2019, arXiv 1802.01548."""

from __future__ import annotations

from collections import deque
from typing import Any

from pydantic import Field, model_validator

from nas_service.strategies.decisions import (
    answering,
    check_version,
    signature,
    stream,
    trials_from_json,
    trials_to_json,
    unseen,
)
from nas_service.strategies.merit import classes, has_result
from nas_service.strategies.protocol import NONE_RUNNING, Figures, ObservedTrial, Problem, Proposed, StrategyConfig
from search_spaces.choose import Choose, Question, mutated, sample


class EvolutionConfig(StrategyConfig):
    """Options of regularised evolution. 20 and 5 suit a few hundred trials; the paper has 100 and 25 for 20,000."""

    population: int = Field(20, ge=2, le=10_000, description="How many of the latest results can be parents.")
    sample: int = Field(5, ge=1, le=10_000, description="How many of them, drawn at random, compete to be the parent.")
    mutations: int = Field(1, ge=1, le=100, description="How many decisions a child changes.")
    attempts: int = Field(
        50, ge=1, le=1000, description="Children drawn in search of one that was not tried before; 1 allows repeats."
    )
    inherit_weights: bool = Field(
        False,
        description="Whether a child starts from its parent's weights, as far as they fit, instead of from fresh ones.",
    )

    @model_validator(mode="after")
    def _sample_fits(self) -> EvolutionConfig:
        if self.sample > self.population:
            raise ValueError(f"sample {self.sample}; allowed: 1 to population, {self.population}")
        return self


class RegularisedEvolution:
    """The parent is the best of a random sample of the latest results; the child differs from it in one decision.

    Only trials with a result become parents: infeasible and failed ones are remembered as tried, no more. A pruned
    trial loses against every completed one. With several objectives the better one has the lower non-dominated front,
    then the larger crowding distance. The first ``population`` trials are random. With ``inherit_weights`` a child
    starts from its parent's weights (Chen et al. 2016, Net2Net): its result is then one of more epochs than its own.
    """

    def __init__(self, config: EvolutionConfig, problem: Problem) -> None:
        self._config = config
        self._problem = problem
        self._population: deque[ObservedTrial] = deque(maxlen=config.population)
        self._seen: set[str] = set()

    def propose(self, number: int, running: Proposed = NONE_RUNNING) -> Choose:
        return answering(self._child(number, running)[0])

    def parent(self, number: int, running: Proposed = NONE_RUNNING) -> int | None:
        """The trial whose child trial ``number`` is, where children inherit."""
        return self._child(number, running)[1] if self._config.inherit_weights else None

    def _child(self, number: int, running: Proposed) -> tuple[tuple[Question, ...], int | None]:
        """The sample for trial ``number`` and the trial that it was made of, None for a random one."""
        rng = stream(self._problem.seed, number)
        population = list(self._population)

        parents: list[int | None] = []

        def draw(attempt: int) -> Choose:
            if number < self._config.population or not population:
                parents.append(None)
                return sample(rng)
            rivals = rng.sample(population, min(self._config.sample, len(population)))
            keys = classes(rivals, self._problem.objectives)
            parent = rivals[min(range(len(rivals)), key=lambda i: keys[i])]
            parents.append(parent.number)
            # A parent whose neighbours were all tried needs larger steps.
            changes = self._config.mutations + attempt // 10
            return mutated(parent.questions, rng, changes)

        return unseen(self._problem, draw, self._seen, self._config.attempts, running), parents[-1]

    def observe(self, trial: ObservedTrial) -> Figures | None:
        self._seen.add(signature(trial.questions))
        if has_result(trial, self._problem.objectives):
            self._population.append(trial)
        return None

    def snapshot(self) -> dict[str, Any]:
        population = trials_to_json(list(self._population))
        return {"strategy": "evolution", "version": 1, "population": population, "seen": sorted(self._seen)}

    def restore(self, snapshot: dict[str, Any]) -> None:
        check_version(snapshot, "evolution", 1)
        self._population = deque(trials_from_json(snapshot["population"]), maxlen=self._config.population)
        self._seen = set(snapshot["seen"])

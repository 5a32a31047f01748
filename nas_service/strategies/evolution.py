"""Regularised evolution: mutate the best of a few, forget the oldest. Real et al., AAAI 2019, arXiv 1802.01548."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass
from typing import Any

from pydantic import Field, model_validator

from nas_service.strategies.decisions import (
    answering,
    asked,
    check_version,
    decided,
    signature,
    signatures,
    stream,
    trials_from_json,
    trials_to_json,
)
from nas_service.strategies.merit import classes, has_result
from nas_service.strategies.protocol import NONE_RUNNING, Figures, ObservedTrial, Problem, Proposed, StrategyConfig
from search_spaces.choose import Choose, Question, crossed, mutated, sample
from workers.scores import ranked


class EvolutionConfig(StrategyConfig):
    """Options of regularised evolution. 20 and 10 suit a few hundred trials; the paper has 100 and 25 for 20,000."""

    population: int = Field(20, ge=2, le=10_000, description="How many of the latest results can be parents.")
    sample: int = Field(10, ge=1, le=10_000, description="How many of them, drawn at random, compete to be the parent.")
    initial: int | None = Field(
        None, ge=1, le=10_000, description="Random trials before the first child; left empty, 10, at most a population."
    )
    mutations: int = Field(1, ge=1, le=100, description="How many decisions a child changes.")
    crossover: float = Field(
        0.5, ge=0, le=1, description="Share of children whose answers come from two parents, before they are changed."
    )
    candidates: int = Field(
        1,
        ge=1,
        le=1000,
        description="Children drawn for a trial, of which the best by zero-cost scores is trained; 1 asks for none. "
        "Three found more in 25 trials on two tables of four, and less on the other two.",
    )
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

    @property
    def first(self) -> int:
        """Random trials before the first child."""
        return min(10, self.population) if self.initial is None else self.initial

    def at_random(self, max_trials: int, scored: bool) -> int:
        return 0 if scored and self.candidates > 1 else self.first


@dataclass(frozen=True)
class Child:
    """A sample, and the trial that it was made of; None for a random one."""

    questions: tuple[Question, ...]
    parent: int | None


class RegularisedEvolution:
    """The parent is the best of a random sample of the latest results; the child differs from it in one decision.

    A share ``crossover`` of the children is crossed first: each answer is that of one of two such parents, by a coin.
    Only trials with a result become parents: infeasible and failed ones are remembered as tried, no more. A pruned
    trial loses against every completed one. With several objectives the better one has the lower non-dominated front,
    then the larger crowding distance. The first ``initial`` trials are random. With ``inherit_weights`` a child
    starts from its parent's weights (Chen et al. 2016, Net2Net): its result is then one of more epochs than its own.

    Where the problem has zero-cost scores, ``candidates`` children are drawn and the best by them is proposed (the
    move proposal of Abdelfattah et al., ICLR 2021, arXiv 2101.08134).
    """

    def __init__(self, config: EvolutionConfig, problem: Problem) -> None:
        self._config = config
        self._problem = problem
        self._population: deque[ObservedTrial] = deque(maxlen=config.population)
        self._seen: set[str] = set()

    def propose(self, number: int, running: Proposed = NONE_RUNNING) -> Choose:
        return answering(self._child(number, running).questions)

    def parent(self, number: int, running: Proposed = NONE_RUNNING) -> int | None:
        """The trial whose child trial ``number`` is, where children inherit."""
        return self._child(number, running).parent if self._config.inherit_weights else None

    def _child(self, number: int, running: Proposed) -> Child:
        """The most promising of some new children; the last one drawn where none is new."""
        rng = stream(self._problem.seed, number)
        population = [] if number < self._config.first else list(self._population)
        wanted = 1 if self._problem.scores is None else self._config.candidates
        taken = self._seen | signatures(running)
        new: list[Child] = []
        for attempt in range(self._config.attempts):
            # A parent whose neighbours were all tried needs larger steps.
            child = self._drawn(population, rng, self._config.mutations + attempt // 10)
            key = signature(child.questions)
            if key not in taken:
                taken.add(key)
                new.append(child)
            if len(new) == wanted:
                break
        if len(new) < 2 or self._problem.scores is None:
            return new[0] if new else child
        architectures = [self._problem.ask(answering(each.questions)) for each in new]
        found = [self._problem.scores(each) for each in architectures]
        merits = ranked(found, sorted({name for each in found for name in each}))
        return new[max(range(len(new)), key=lambda i: merits[i])]

    def _drawn(self, population: list[ObservedTrial], rng: random.Random, changes: int) -> Child:
        if not population:
            return Child(asked(self._problem, sample(rng)), None)
        first = self._selected(population, rng)
        questions = first.questions
        if self._config.crossover > rng.random():
            second = self._selected(population, rng)
            questions = asked(self._problem, crossed(decided(questions), decided(second.questions), rng))
        return Child(asked(self._problem, mutated(questions, rng, changes)), first.number)

    def _selected(self, population: list[ObservedTrial], rng: random.Random) -> ObservedTrial:
        """The best of a random few."""
        rivals = rng.sample(population, min(self._config.sample, len(population)))
        keys = classes(rivals, self._problem.objectives)
        return rivals[min(range(len(rivals)), key=lambda i: keys[i])]

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

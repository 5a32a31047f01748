"""Local search: step to the first neighbour that is better. White et al., UAI 2021, arXiv 2005.02960."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import Field

from nas_service.strategies.decisions import (
    answering,
    check_version,
    signature,
    signatures,
    stepped,
    steps,
    stream,
    trials_from_json,
    trials_to_json,
    unseen,
)
from nas_service.strategies.merit import classes, has_result
from nas_service.strategies.protocol import NONE_RUNNING, Figures, ObservedTrial, Problem, Proposed, StrategyConfig
from search_spaces.choose import Choose, Question, sample


class LocalConfig(StrategyConfig):
    """Options of local search."""

    initial: int = Field(10, ge=1, le=10_000, description="Random trials before the first step.")
    attempts: int = Field(
        50, ge=1, le=1000, description="Random samples drawn in search of one that was not tried before."
    )

    def at_random(self, max_trials: int, scored: bool) -> int:
        return self.initial


class LocalSearch:
    """Proposes a neighbour, untried as yet, of the best trial that has one: an answer is changed, the others stay.

    So a neighbour that is better is the next to be stepped from (first improvement), one that is worse is left behind,
    and from a local optimum, whose neighbours were all tried, the search goes on from the best trial that has some left
    (White et al. call it "continue until budget"; restarts at random did worse). What runs counts as tried. Only
    trials with a result are stepped from. Where nothing is left to step to, samples are random.
    """

    def __init__(self, config: LocalConfig, problem: Problem) -> None:
        self._config = config
        self._problem = problem
        self._clear()

    def _clear(self) -> None:
        self._trials: dict[str, ObservedTrial] = {}  # those with a result, by signature: a repeat tells nothing new
        self._seen: set[str] = set()
        self._neighbours: dict[str, list[tuple[str, tuple[Question, ...]]]] = {}  # a cache: untried ones, by signature

    def propose(self, number: int, running: Proposed = NONE_RUNNING) -> Choose:
        if number >= self._config.initial:
            taken = self._seen | signatures(running)
            for key in self._best_first():
                for neighbour, questions in self._untried(key):
                    if neighbour not in taken:
                        return answering(questions)
        rng = stream(self._problem.seed, number)
        return answering(unseen(self._problem, lambda _: sample(rng), self._seen, self._config.attempts, running))

    def _best_first(self) -> Iterator[str]:
        trials = list(self._trials.items())
        keys = classes([trial for _, trial in trials], self._problem.objectives)
        for i in sorted(range(len(trials)), key=lambda i: keys[i]):
            yield trials[i][0]

    def _untried(self, key: str) -> list[tuple[str, tuple[Question, ...]]]:
        """Neighbours of a trial that were not observed, with their signatures, in an order of its own."""
        known = self._neighbours.get(key)
        if known is None:
            rng = stream(self._problem.seed, 0, key)
            questions = self._trials[key].questions
            moves = steps(questions)
            rng.shuffle(moves)
            neighbours = [stepped(self._problem, questions, move, rng) for move in moves]
            known = [(signature(neighbour), neighbour) for neighbour in neighbours]
        self._neighbours[key] = [each for each in known if each[0] not in self._seen]
        return self._neighbours[key]

    def observe(self, trial: ObservedTrial) -> Figures | None:
        key = signature(trial.questions)
        if has_result(trial, self._problem.objectives):
            self._trials.setdefault(key, trial)
        self._seen.add(key)
        return None

    def snapshot(self) -> dict[str, Any]:
        trials = trials_to_json(list(self._trials.values()))
        return {"strategy": "local", "version": 1, "trials": trials, "seen": sorted(self._seen)}

    def restore(self, snapshot: dict[str, Any]) -> None:
        check_version(snapshot, "local", 1)
        self._clear()
        for trial in trials_from_json(snapshot["trials"]):
            self.observe(trial)
        self._seen = set(snapshot["seen"])

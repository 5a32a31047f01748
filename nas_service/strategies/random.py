"""Uniform random search: the yardstick. Bergstra and Bengio, JMLR 13, 2012."""

from __future__ import annotations

import sys
from typing import Any

from pydantic import Field

from nas_service.strategies.decisions import answering, check_version, signature, stream, unseen
from nas_service.strategies.protocol import NONE_RUNNING, Figures, ObservedTrial, Problem, Proposed, StrategyConfig
from search_spaces.choose import Choose, sample


class RandomConfig(StrategyConfig):
    """Options of random search."""

    attempts: int = Field(
        20, ge=1, le=1000, description="Samples drawn in search of one that was not tried before; 1 allows repeats."
    )

    def at_random(self, max_trials: int, scored: bool) -> int:
        return sys.maxsize


class RandomSearch:
    """Every question is answered uniformly at random; samples that were observed already are drawn anew."""

    def __init__(self, config: RandomConfig, problem: Problem) -> None:
        self._config = config
        self._problem = problem
        self._seen: set[str] = set()

    def propose(self, number: int, running: Proposed = NONE_RUNNING) -> Choose:
        rng = stream(self._problem.seed, number)
        return answering(unseen(self._problem, lambda _: sample(rng), self._seen, self._config.attempts, running))

    def observe(self, trial: ObservedTrial) -> Figures | None:
        self._seen.add(signature(trial.questions))
        return None

    def snapshot(self) -> dict[str, Any]:
        return {"strategy": "random", "version": 1, "seen": sorted(self._seen)}

    def restore(self, snapshot: dict[str, Any]) -> None:
        check_version(snapshot, "random", 1)
        self._seen = set(snapshot["seen"])

"""Exhaustive search: every sample of the space once, in a random order."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from typing import Any

from nas_service.strategies.decisions import answering, asked, check_version, stream
from nas_service.strategies.protocol import NONE_RUNNING, Figures, ObservedTrial, Problem, Proposed, StrategyConfig
from search_spaces.choose import Choose, Question, T, position

Path = tuple[int, ...]
"""Which option was taken at each question, in the order of asking; the start of one stands for all that go on so."""


class GridConfig(StrategyConfig):
    """Exhaustive search has no options."""

    def at_random(self, max_trials: int, scored: bool) -> int:
        return sys.maxsize


class Grid:
    """Answers at random, but only where something untried is left: after as many trials as samples, all were tried.

    Conditions of the space are kept: a question is asked only where it matters. Nothing is listed beforehand, so any
    space will do; on one with many more samples than trials this is random search without repeats. (As Optuna's
    BruteForceSampler, which cannot be told of a proposal that it was not run.)
    """

    def __init__(self, config: GridConfig, problem: Problem) -> None:
        self._problem = problem
        self._closed: set[Path] = set()

    def propose(self, number: int, running: Proposed = NONE_RUNNING) -> Choose:
        rng = stream(self._problem.seed, number)
        closed: set[Path] = set()
        for questions in running.values():
            close(questions, closed, self._closed)
        taken: Path = ()
        used_up = () in self._closed or () in closed

        def choose(name: str, options: Sequence[T], /) -> T:
            nonlocal taken
            paths = [(*taken, i) for i in range(len(options))]
            left = paths if used_up else [path for path in paths if path not in self._closed and path not in closed]
            taken = rng.choice(left)
            return options[taken[-1]]

        return answering(asked(self._problem, choose))

    def observe(self, trial: ObservedTrial) -> Figures | None:
        close(trial.questions, self._closed)
        return None

    def snapshot(self) -> dict[str, Any]:
        return {"strategy": "grid", "version": 1, "closed": sorted(self._closed)}

    def restore(self, snapshot: dict[str, Any]) -> None:
        check_version(snapshot, "grid", 1)
        self._closed = {tuple(path) for path in snapshot["closed"]}


def close(questions: Sequence[Question], closed: set[Path], others: Collection[Path] = ()) -> None:
    """Add a sample to ``closed``, and every start of it that leads only to samples there or in ``others``."""
    path = tuple(position(q.options, q.answer) for q in questions)
    closed.add(path)
    for length in reversed(range(len(path))):
        siblings = [(*path[:length], i) for i in range(len(questions[length].options))]
        if not all(sibling in closed or sibling in others for sibling in siblings):
            return
        closed.add(path[:length])

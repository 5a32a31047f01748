"""Model-guided search: a Gaussian process over decisions judges mutations of the best trials.

White et al., BANANAS, AAAI 2021, arXiv 1910.11858: mutations of the incumbents; Ru et al., ICLR 2021, arXiv 2006.07556:
Gaussian processes on architectures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np
from pydantic import Field
from threadpoolctl import ThreadpoolController

from nas_service.strategies.decisions import (
    Sample,
    answering,
    asked,
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
from nas_service.strategies.merit import Floats, has_result
from nas_service.strategies.protocol import NONE_RUNNING, Figures, ObservedTrial, Problem, Proposed, StrategyConfig
from nas_service.strategies.surrogate import (
    Encoding,
    GaussianProcess,
    decisions_prior,
    log_expected_improvement,
    targets,
)
from search_spaces.choose import Choose, mutated, sample

Reader = Callable[[Sequence[Sample]], Floats]
ATTEMPTS = 20
"""Samples drawn in search of one that was not tried."""
LEAST = 3
"""Results without which a model is not worth fitting, copies left out."""


class PredictorConfig(StrategyConfig):
    """Options of model-guided search. A candidate costs an answer of the space: a millisecond for large networks."""

    initial: int = Field(6, ge=1, le=10_000, description="Random trials before the model is used.")
    parents: int = Field(10, ge=1, le=1000, description="Best trials whose variations are candidates.")
    neighbours: int = Field(
        100, ge=1, le=10_000, description="Candidates for each parent that differ from it in one decision, at most."
    )
    mutants: int = Field(
        100, ge=0, le=10_000, description="Candidates for each trial that differ from a parent in two decisions."
    )
    randoms: int = Field(100, ge=0, le=10_000, description="Candidates for each trial that are drawn at random.")
    points: int = Field(
        400, ge=10, le=2000, description="Results that the model is made of, at most: the best and the latest ones."
    )

    def at_random(self, max_trials: int, scored: bool) -> int:
        return self.initial


class Predictor:
    """Proposes the candidate of the largest expected improvement (Jones et al., 1998) under a Gaussian process.

    Candidates are all neighbours of the best trials, random changes of two of their decisions, and random samples. The
    kernel is found anew when the results have grown by a fifth; every result counts at once. Trials that run count as
    known, with the value that is expected of them. What was tried is not proposed again, while there is something else.
    """

    kind = "predictor"

    def __init__(self, config: PredictorConfig, problem: Problem) -> None:
        import_module("scipy.linalg")  # not later: only what is loaded already can be kept to one thread
        self._threads = ThreadpoolController()
        self._config = config
        self._problem = problem
        self._clear()

    def _clear(self) -> None:
        self._trials: list[ObservedTrial] = []
        self._signatures: list[str] = []
        self._copies: list[bool] = []
        """Whether a trial took over a result that was told before: of an equal network, so with the same luck."""
        self._values: set[tuple[float, ...] | None] = set()
        self._seen: set[str] = set()
        self._results = 0
        self._mixed = False
        """Whether some results are of trainings that were stopped."""
        self._near: dict[str, dict[str, Sample]] = {}
        self._kernels: tuple[tuple[int, bool], GaussianProcess, Reader] | None = None
        self._known: tuple[int, Floats] | None = None

    def propose(self, number: int, running: Proposed = NONE_RUNNING) -> Choose:
        rng = stream(self._problem.seed, number)
        if self._index(running) < self._config.initial or self._results < LEAST:
            return answering(self._first(number, running))
        with self._threads.limit(limits=1):  # small matrices: threads only get into each other's way
            best = self._pick(number, self._seen | signatures(running), list(running.values()))
        if best is None:
            parent = self._parents()[0].questions
            best = unseen(self._problem, lambda i: mutated(parent, rng, 1 + i // 10), self._seen, 100, running)
        return answering(best)

    def _pick(self, number: int, taken: set[str], running: Sequence[Sample]) -> Sample | None:
        """The best candidate for trial ``number``; None where all that there are were tried."""
        candidates = list(self._candidates(number, taken).values())
        if not candidates:
            return None
        process, read, best = self._model()
        mean, deviation = process.posterior(read(candidates), read(running))
        return candidates[int(np.argmax(log_expected_improvement(mean, deviation, best)))]

    def _index(self, running: Proposed) -> int:
        """How many trials there were before the next one, without networks that the search was given."""
        return len(self._trials) + len(running)

    def _first(self, number: int, running: Proposed) -> Sample:
        """The sample for a trial before there is a model."""
        rng = stream(self._problem.seed, number)
        return unseen(self._problem, lambda _: sample(rng), self._seen, ATTEMPTS, running)

    def _targets(self) -> Floats:
        """Target of each trial."""
        if self._known is None or self._known[0] != len(self._trials):
            self._known = len(self._trials), targets(self._trials, self._problem.objectives)
        return self._known[1]

    def _fitted(
        self, samples: Sequence[Sample], goals: Floats, stopped: Floats | None
    ) -> tuple[GaussianProcess, Reader]:
        """The process of these results, and what turns samples into its rows."""
        encoding = Encoding(samples)
        return GaussianProcess(decisions_prior(encoding), encoding.encode(samples), goals, stopped), encoding.encode

    def _stopped(self, chosen: Sequence[int]) -> Floats | None:
        """1 for those of the trials that were stopped, 0 for the others; None where none of all was."""
        return np.array([float(self._trials[i].state == "pruned") for i in chosen]) if self._mixed else None

    def _model(self) -> tuple[GaussianProcess, Reader, float]:
        """The process given all results, what it reads, and the best value it expects of a trial."""
        count = len(self._trials)
        size = LEAST
        while max(size + 1, size * 6 // 5) <= count:
            size = max(size + 1, size * 6 // 5)
        if self._kernels is None or self._kernels[0] != (size, self._mixed):
            goals = targets(self._trials[:size], self._problem.objectives)
            chosen = self._chosen(goals)
            samples = [self._trials[i].questions for i in chosen]
            self._kernels = (size, self._mixed), *self._fitted(samples, goals[chosen], self._stopped(chosen))
        _, process, read = self._kernels
        goals = self._targets()
        chosen = self._chosen(goals)
        rows = read([self._trials[i].questions for i in chosen])
        stopped = self._stopped(chosen)
        process.condition(rows, goals[chosen], stopped)
        if stopped is not None and not stopped.all():
            rows = rows[stopped == 0]
        return process, read, float(process.posterior(rows)[0].max())

    def _chosen(self, goals: Floats) -> list[int]:
        """Trials that the model is made of: half of them the best, the rest the latest."""
        points = self._config.points
        own = [i for i in range(len(goals)) if not self._copies[i]]
        if len(own) <= points:
            return own
        best = sorted(own, key=lambda i: -goals[i])[: points // 2]
        rest = sorted(set(own) - set(best))
        return sorted([*best, *rest[-(points - len(best)) :]])

    def _parents(self) -> list[ObservedTrial]:
        """The best distinct trials with a result, best first."""
        found: dict[str, ObservedTrial] = {}
        for i in np.argsort(-self._targets(), kind="stable").tolist():
            if len(found) == self._config.parents:
                break
            if has_result(self._trials[i], self._problem.objectives):
                found.setdefault(self._signatures[i], self._trials[i])
        return list(found.values())

    def _candidates(self, number: int, taken: set[str]) -> dict[str, Sample]:
        """Samples that might be proposed for trial ``number``, by signature."""
        rng = stream(self._problem.seed, number, "candidates")
        parents = self._parents()
        keys = [signature(parent.questions) for parent in parents]
        self._near = {
            key: self._near.get(key) or self._neighbours(parent.questions)
            for key, parent in zip(keys, parents, strict=True)
        }
        found: dict[str, Sample] = {}
        for samples in self._near.values():
            found.update(samples)
        for _ in range(self._config.mutants):
            questions = asked(self._problem, mutated(rng.choice(parents).questions, rng, 2))
            found[signature(questions)] = questions
        for _ in range(self._config.randoms):
            questions = asked(self._problem, sample(rng))
            found[signature(questions)] = questions
        return {key: questions for key, questions in found.items() if key not in taken}

    def _neighbours(self, parent: Sample) -> dict[str, Sample]:
        """Samples that differ from ``parent`` in one decision and what depends on it, by signature."""
        rng = stream(self._problem.seed, 0, signature(parent))
        moves = steps(parent)
        if len(moves) > self._config.neighbours:
            moves = rng.sample(moves, self._config.neighbours)
        found = {}
        for move in moves:
            questions = stepped(self._problem, parent, move, rng)
            found[signature(questions)] = questions
        return found

    def _learn(self, trial: ObservedTrial) -> None:
        self._trials.append(trial)
        self._signatures.append(signature(trial.questions))
        self._seen.add(self._signatures[-1])
        self._copies.append(trial.reused and trial.values in self._values)  # of a given network nothing was told
        self._values.add(trial.values)
        self._results += has_result(trial, self._problem.objectives) and not self._copies[-1]
        self._mixed = self._mixed or trial.state == "pruned"

    def observe(self, trial: ObservedTrial) -> Figures | None:
        self._learn(trial)
        return None

    def snapshot(self) -> dict[str, Any]:
        return {"strategy": self.kind, "version": 1, **trials_to_json(self._trials)}

    def restore(self, snapshot: dict[str, Any]) -> None:
        check_version(snapshot, self.kind, 1)
        trials = trials_from_json(snapshot)
        self._clear()
        for trial in trials:
            self._learn(trial)

"""Model-guided search that starts from zero-cost scores. Abdelfattah et al., ICLR 2021, arXiv 2101.08134."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from pydantic import Field

from nas_service.strategies.credit import Sources, credit
from nas_service.strategies.decisions import Sample, answering, asked, signature, signatures, stream, unseen
from nas_service.strategies.merit import Floats, merits
from nas_service.strategies.predictor import ATTEMPTS, LEAST, Predictor, PredictorConfig, Reader
from nas_service.strategies.protocol import Figures, ObservedTrial, Problem, Proposed
from nas_service.strategies.surrogate import (
    Encoding,
    GaussianProcess,
    decisions_prior,
    log_expected_improvement,
    weights_prior,
)
from search_spaces.choose import sample

PREFERRED = frozenset({"naswot", "nwot", "synflow", "jacov", "zen"})
"""Scores whose aggregate ranks best on published tables; where a search has none of them, all of its scores count."""
RANDOM_EVERY = 2
"""Of the first trials, one in so many is random: insurance against scores that mislead."""
APART = 2
"""Decisions in which the first trials differ from each other at least."""
BEST = 64
"""Those of the first trials that are not random are taken from so many of the best of the pool."""
RECENT = 200
"""Latest trials that tell how the sources of proposals do, and whether scores predict results."""
LEAST_POOL = 10
"""Samples without which ranks in a pool say nothing."""
WEIGHT = -3.0
"""Prior of the log weight of a score in the kernel."""


class AutoConfig(PredictorConfig):
    """Options of the default strategy. Without zero-cost scores it is the predictor."""

    initial: int = Field(
        6,
        ge=1,
        le=10_000,
        description="Trials before the model is used: random ones; where there are zero-cost scores, the best of the "
        "pool and random ones in turn.",
    )
    pool: int | None = Field(
        None,
        ge=LEAST_POOL,
        le=20_000,
        description="Random samples whose zero-cost scores are computed before the first trial. Left empty: ten times "
        "the trials of the search, 50 to 1,000, but no more than short trainings pay for. A sample takes 0.05 to 1 s "
        "of the driver's CPU.",
    )
    scored: int = Field(
        16,
        ge=1,
        le=10_000,
        description="Most promising candidates whose zero-cost scores are computed, for each trial.",
    )
    explore: float = Field(0.03, ge=0, le=1, description="Share of trials that are drawn at random, for insurance.")

    def at_random(self, max_trials: int, scored: bool) -> int:
        return 0 if scored else self.initial

    def pool_for(self, max_trials: int | None) -> int:
        """Size of the pool of a search of so many trials, whatever it costs."""
        return self.pool or min(max(10 * (max_trials or 100), 50), 1000)


class Auto(Predictor):
    """The predictor, with zero-cost scores as far as they help.

    With scores, a pool of random samples is ranked by the sum of the logarithms of its ranks; the first trials are its
    best, and random ones in turn. Then the ranks, as normal scores, are inputs of the Gaussian process
    beside the decisions, by distance and by a straight line, as long as that explains the results better than the
    decisions alone. Candidates are the pool, and variations of the best trials; of these only the ``scored`` most
    promising are scored, judged by what a linear model of the pool predicts for them.
    """

    kind = "auto"

    def __init__(self, config: AutoConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        self._options = config
        self._cached: Pool | None = None
        self._scored: dict[str, Floats] = {}
        self._used: Used | None = None

    def _clear(self) -> None:
        super()._clear()
        self._sources: Sources | None = None

    def _scores(self, questions: Sample) -> Mapping[str, float]:
        """Zero-cost scores of a sample by name; none where the search has none."""
        if self._problem.scores is None:
            return {}
        return self._problem.scores(self._problem.ask(answering(questions)))

    def _pool(self) -> Pool:
        """Random samples with their scores; made once."""
        if self._cached is None:
            size = self._options.pool_for(self._problem.max_trials)
            rng = stream(self._problem.seed, 0, "pool")
            drawn = [asked(self._problem, sample(rng)) for _ in range(size if self._problem.scores else 0)]
            samples = {signature(questions): questions for questions in drawn}
            self._cached = Pool(samples, [self._scores(questions) for questions in samples.values()])
        return self._cached

    def _ranks(self, samples: Sequence[Sample]) -> Floats:
        """Share of the pool that each sample beats, for each score: ``[len(samples), scores]``."""
        pool = self._pool()
        keys = [signature(questions) for questions in samples]
        for key, questions in zip(keys, samples, strict=True):
            if key not in self._scored:
                self._scored[key] = pool.ranked([self._scores(questions)])[0]
        return np.array([self._scored[key] for key in keys]).reshape(len(keys), len(pool.names))

    def _grades(self, samples: Sequence[Sample]) -> Floats:
        """The ranks as normal scores: ``[len(samples), scores]``."""
        return self._pool().grades(self._ranks(samples))

    def _first(self, number: int, running: Proposed) -> Sample:
        pool = self._pool()
        if pool.names and self._index(running) % RANDOM_EVERY != RANDOM_EVERY - 1:
            taken = self._seen | signatures(running)
            for key in pool.best:
                if key not in taken:
                    return pool.samples[key]
        return super()._first(number, running)

    def _fitted(
        self, samples: Sequence[Sample], goals: Floats, stopped: Floats | None
    ) -> tuple[GaussianProcess, Reader]:
        process, read = super()._fitted(samples, goals, stopped)
        pool = self._pool()
        self._used = None
        if not pool.names:
            return process, read
        encoding = Encoding([*samples, *pool.samples.values()])
        prior = decisions_prior(encoding).beside(weights_prior(len(pool.names), WEIGHT, 1 / len(pool.names)))
        decisions = encoding.encode(samples)
        informed = GaussianProcess(prior, np.concatenate([decisions, self._grades(samples)], axis=1), goals, stopped)
        if informed.evidence <= process.evidence:
            return process, read
        decisions = encoding.encode(list(pool.samples.values()))
        ridge = decisions.T @ decisions + np.eye(decisions.shape[1])
        grades = pool.grades(pool.ranks)
        linear = np.asarray(np.linalg.solve(ridge, decisions.T @ grades), dtype=np.float64)
        self._used = Used(encoding, linear, np.concatenate([decisions, grades], axis=1))
        return informed, self._used.reader(self._grades)

    def _pick(self, number: int, taken: set[str], running: Sequence[Sample]) -> Sample | None:
        rng = stream(self._problem.seed, number, "explore")
        if rng.random() < self._options.explore:
            return unseen(self._problem, lambda _: sample(rng), taken, ATTEMPTS)
        process, read, best = self._model()
        used = self._used
        if used is None:
            return super()._pick(number, taken, running)
        pending = read(running)

        def judged(rows: Floats) -> Floats:
            return log_expected_improvement(*process.posterior(rows, pending), best)

        near = list(self._candidates(number, taken).values())
        if near:
            order = np.argsort(-judged(used.guessed(near)), kind="stable")
            near = [near[i] for i in order[: self._options.scored]]
        pooled = [(i, questions) for i, (key, questions) in enumerate(self._pool().samples.items()) if key not in taken]
        samples = [*near, *(questions for _, questions in pooled)]
        if not samples:
            return None
        return samples[int(np.argmax(judged(np.concatenate([read(near), used.pool[[i for i, _ in pooled]]]))))]

    def _learn(self, trial: ObservedTrial) -> None:
        super()._learn(trial)
        if self._sources is None:
            self._sources = Sources(set(self._pool().best))
        self._sources.add(trial.questions, self._signatures[-1])

    def observe(self, trial: ObservedTrial) -> Figures | None:
        super().observe(trial)
        assert self._sources is not None
        pool, recent = self._pool(), self._trials[-RECENT:]
        worth = merits(recent, self._problem.objectives)
        figures = dict(credit(self._sources.found[-RECENT:], worth.tolist()))
        if pool.names and len(recent) >= LEAST:
            totals = pool.total(self._ranks([trial.questions for trial in recent]))
            if np.ptp(worth) > 0 and np.ptp(totals) > 0:
                from scipy.stats import spearmanr  # half a second, which no other strategy and no server has to pay

                figures["score_correlation"] = float(spearmanr(totals, worth).statistic)
        return figures


class Pool:
    """Random samples by signature, ranked by their zero-cost scores."""

    def __init__(self, samples: dict[str, Sample], scores: Sequence[Mapping[str, float]]) -> None:
        self.samples = samples
        self.names = sorted({name for found in scores for name, score in found.items() if math.isfinite(score)})
        self._columns = np.sort(self._table(scores), axis=0)
        self.ranks = self.ranked(scores)
        keys = list(samples)
        order: list[int] = np.argsort(-self.total(self.ranks), kind="stable").tolist() if self.names else []
        self.best: list[str] = []
        """Signatures of the best samples, best first, each apart from those before."""
        for i in order[: 10 * BEST]:
            if len(self.best) < BEST and all(distance(samples[keys[i]], samples[k]) >= APART for k in self.best):
                self.best.append(keys[i])

    def _table(self, scores: Sequence[Mapping[str, float]]) -> Floats:
        """Scores in columns, the worst of all where there is none: ``[len(scores), names]``."""
        rows = [[found.get(name, math.nan) for name in self.names] for found in scores]
        table = np.array(rows, dtype=np.float64).reshape(len(scores), len(self.names))
        return np.where(np.isfinite(table), table, -math.inf)

    def ranked(self, scores: Sequence[Mapping[str, float]]) -> Floats:
        """Share of the pool that is beaten, ties counted half: ``[len(scores), names]``."""
        ranks = np.zeros((len(scores), len(self.names)))
        for rank, values, pool in zip(ranks.T, self._table(scores).T, self._columns.T, strict=True):
            rank[:] = (np.searchsorted(pool, values, "left") + np.searchsorted(pool, values, "right")) / (2 * len(pool))
        return ranks

    def grades(self, ranks: Floats) -> Floats:
        """Ranks as normal scores, which tell the best of the pool apart as ranks do not."""
        least = 0.5 / len(self.samples)
        return np.asarray(scipy.special.ndtri(np.clip(ranks, least, 1 - least)), dtype=np.float64)

    def total(self, ranks: Floats) -> Floats:
        """Sum of the logarithms of the ranks: ``[len(ranks)]``. A sample must not fail at any of the scores."""
        counted = [i for i, name in enumerate(self.names) if name in PREFERRED] or list(range(len(self.names)))
        total: Floats = np.log(ranks[:, counted] + 0.5 / len(self.samples)).sum(axis=1)
        return total


@dataclass(frozen=True)
class Used:
    """How scores enter the model."""

    encoding: Encoding
    linear: Floats
    """Grades as a linear function of the encoded decisions: ``[columns, scores]``."""
    pool: Floats
    """The model's rows of the pool."""

    def reader(self, grades: Reader) -> Reader:
        """Rows of samples, with their grades."""
        return lambda samples: np.concatenate([self.encoding.encode(samples), grades(samples)], axis=1)

    def guessed(self, samples: Sequence[Sample]) -> Floats:
        """Rows of samples, with the grades that are expected of them."""
        decisions = self.encoding.encode(samples)
        return np.concatenate([decisions, decisions @ self.linear], axis=1)


def distance(one: Sample, two: Sample) -> int:
    """Decisions of ``one`` that ``two`` does not share."""
    others = {(q.name, q.answer) for q in two}
    return sum((q.name, q.answer) not in others for q in one)

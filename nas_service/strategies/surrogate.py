"""A Gaussian process over the decisions of a search: what to expect of a sample before it is trained.

Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006; expected improvement: Jones et al., 1998.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy  # loads its parts at their first use: 0.3 s that only a search with a model pays

from nas_service.strategies.merit import Floats, merits
from nas_service.strategies.protocol import Objective, ObservedTrial
from search_spaces.choose import Question

COUNT = 3.0
"""Largest value of a column that counts how often an option is the answer."""
COUNT_LINE = 0.37
"""Prior variance of the slope of a straight line in such a column."""
STOPPED = 0.0
"""Prior mean of the log weight of having been stopped in the kernel: a correlation of 0.6."""
NOISE = (-4.0, 1.5)
"""Prior mean and standard deviation of the log noise variance of targets of unit variance."""


class Encoding:
    """Decisions as numbers: a column for each option of each question, and one for a question that was not asked.

    Then a column for each option that several questions share: how often it is the answer, as a share of the most
    that it could be, times three. Columns come from ``samples``; questions with one option have none.
    """

    def __init__(self, samples: Sequence[Sequence[Question]]) -> None:
        self._columns: dict[tuple[str, str, Any], int] = {}
        self._absent: dict[str, int] = {}
        decisions: list[int] = []
        kinds: list[int] = []
        numbers: dict[tuple[str, str], int] = {}
        for sample in samples:
            for q in sample:
                if len(q.options) == 1 or q.name in self._absent:
                    continue
                for option in (None, *q.options):
                    key = type(option).__name__, option
                    if option is None:
                        self._absent[q.name] = len(kinds)
                    else:
                        self._columns[q.name, *key] = len(kinds)
                    decisions.append(len(self._absent) - 1)
                    kinds.append(numbers.setdefault((repr(q.options), repr(option)), len(numbers)))
        self.decisions = np.array(decisions, dtype=np.int64)
        """Number of the decision of each one-hot column."""
        self.kinds = np.array(kinds, dtype=np.int64)
        """Number of the option of each one-hot column: equal where two questions have equal options."""
        members = self.kinds[:, None] == np.arange(len(numbers))
        often = members.sum(axis=0)
        self._counts = members[:, often > 1] * (COUNT / np.maximum(often[often > 1], 1))

    @property
    def counts(self) -> int:
        """How many columns are counts."""
        return int(self._counts.shape[1])

    def encode(self, samples: Sequence[Sequence[Question]]) -> Floats:
        """One row a sample: ``[len(samples), columns]``."""
        rows = np.zeros((len(samples), len(self.kinds)))
        rows[:, list(self._absent.values())] = 1.0
        for row, sample in zip(rows, samples, strict=True):
            for q in sample:
                if q.name in self._absent:
                    row[self._absent[q.name]] = 0.0
                    row[self._columns[q.name, type(q.answer).__name__, q.answer]] = 1.0
        return np.concatenate([rows, rows @ self._counts], axis=1)


@dataclass(frozen=True)
class Prior:
    """Log weights of columns are ``ties @ θ``; the θ are normal with these means and standard deviations."""

    ties: Floats
    mean: Floats
    deviation: Floats
    lines: Floats
    """Variance of the slope of a straight line in each column, 0 for none, up to one factor for all."""

    def beside(self, other: Prior) -> Prior:
        """The prior of both sets of columns, side by side."""
        rows, columns = self.ties.shape
        ties = np.zeros((rows + len(other.ties), columns + other.ties.shape[1]))
        ties[:rows, :columns] = self.ties
        ties[rows:, columns:] = other.ties
        joined = (np.append(getattr(self, n), getattr(other, n)) for n in ("mean", "deviation", "lines"))
        return Prior(ties, *joined)


def decisions_prior(encoding: Encoding) -> Prior:
    """One-hot columns: a weight for each decision, times one for each option that decisions with equal options share.

    Two samples that differ in a decision are apart by the mean weight of their two options there. Without the
    options' share that is the Hamming distance, with a length scale for each decision.
    """
    decisions, kinds = encoding.decisions, encoding.kinds
    many, few = int(decisions.max(initial=-1)) + 1, int(kinds.max(initial=-1)) + 1
    ties = np.concatenate([np.eye(many)[decisions], np.eye(few)[kinds]], axis=1)
    mean = np.concatenate([np.full(many, math.log(2 / max(many, 1))), np.zeros(few)])
    prior = Prior(ties, mean, np.ones(many + few), np.zeros(len(kinds)))
    return prior.beside(weights_prior(encoding.counts, -1.0, COUNT_LINE))


def weights_prior(columns: int, mean: float, line: float) -> Prior:
    """A weight of its own for each column, its logarithm around ``mean``, and a straight line."""
    return Prior(np.eye(columns), np.full(columns, mean), np.full(columns, 1.5), np.full(columns, line))


class GaussianProcess:
    """Kernel s² exp(-½ Σ_c w_c (a_c - b_c)²) + v² Σ_c l_c a_c b_c and normal noise, maximum a posteriori, by L-BFGS.

    The second part is a straight line in some columns, whose l_c the prior fixes.

    Where some results are of trainings that were stopped, a further column says which. So those are values of another
    function, and how much it has in common with the one that is asked for is learned too.
    """

    def __init__(
        self, prior: Prior, rows: Floats, targets: Floats, stopped: Floats | None = None, iterations: int = 40
    ) -> None:
        """Find the kernel from ``rows`` ``[n, columns]`` and ``targets`` ``[n]`` of mean 0 and variance 1.

        ``stopped`` ``[n]`` is 1 for results of trainings that were stopped, 0 for others; None: none ever was.
        """
        self._kinds = stopped is not None
        self._prior = prior = prior.beside(weights_prior(1, STOPPED, 0.0)) if self._kinds else prior
        known, rows = rows, self._whole(rows, stopped)
        line = self._line(rows, rows)
        mean = np.concatenate([prior.mean, [0.0, 0.0, NOISE[0]]])
        deviation = np.concatenate([prior.deviation, [1.0, 1.0, NOISE[1]]])
        bounds = [(-8.0, 4.0)] * len(prior.mean) + [(-4.0, 4.0), (-8.0, 4.0), (-9.0, 1.0)]

        def loss(theta: Floats) -> tuple[float, Floats]:
            self._set(theta)
            smooth = self._smooth(rows, rows)
            straight = line * self._shared(rows, rows)
            lower = self._factor(smooth + self._slant * straight)
            alpha = scipy.linalg.cho_solve((lower, True), targets, check_finite=False)
            inverse = scipy.linalg.cho_solve((lower, True), np.eye(len(rows)), check_finite=False)
            slope = 0.5 * (inverse - np.outer(alpha, alpha))  # of the loss, by the entries of the covariance
            pull = slope * smooth
            by_weight = _by_weight(pull, rows)
            if self._kinds:  # the only weight that the straight line depends on
                by_weight[-1:] += _by_weight(self._slant * slope * straight, rows[:, -1:])
            by_theta = np.concatenate(
                [
                    prior.ties.T @ (by_weight * self._weights),
                    [pull.sum(), self._slant * (slope * straight).sum(), self._noise * np.trace(slope)],
                ]
            )
            off = (theta - mean) / deviation
            value = 0.5 * targets @ alpha + np.log(np.diag(lower)).sum() + 0.5 * off @ off
            return float(value), by_theta + off / deviation

        found = scipy.optimize.minimize(
            loss, mean, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": iterations}
        )
        self._set(found.x)
        self.evidence = -float(found.fun)
        """Logarithm of the posterior density of the kernel, up to a constant: how well it explains the targets."""
        self.condition(known, targets, stopped)

    def _whole(self, rows: Floats, stopped: Floats | None = None) -> Floats:
        """Rows with the column that says what was stopped, where there is one; nothing was where it is not told."""
        if not self._kinds:
            return rows
        return np.column_stack([rows, np.zeros(len(rows)) if stopped is None else stopped])

    def _set(self, theta: Floats) -> None:
        self._weights = np.exp(self._prior.ties @ theta[:-3])
        self._variance = math.exp(theta[-3])
        self._slant = math.exp(theta[-2])
        self._noise = math.exp(theta[-1])

    def _kernel(self, one: Floats, two: Floats) -> Floats:
        """Covariance of the signal at rows ``one`` and ``two``: ``[len(one), len(two)]``."""
        return self._smooth(one, two) + self._slant * self._line(one, two) * self._shared(one, two)

    def _line(self, one: Floats, two: Floats) -> Floats:
        """The part of the covariance that is a straight line in some columns, up to a factor."""
        line: Floats = (one * self._prior.lines) @ two.T
        return line

    def _shared(self, one: Floats, two: Floats) -> Floats | float:
        """What the straight lines of whole and of stopped trainings have in common: 1 within a kind."""
        if not self._kinds:
            return 1.0
        shared: Floats = np.where(one[:, -1:] == two[:, -1], 1.0, math.exp(-0.5 * self._weights[-1]))
        return shared

    def _smooth(self, one: Floats, two: Floats) -> Floats:
        """The part of the covariance that falls with distance."""
        scaled = one * self._weights
        square = (scaled * one).sum(axis=1)[:, None] + (two * self._weights * two).sum(axis=1) - 2 * scaled @ two.T
        kernel: Floats = self._variance * np.exp(-0.5 * np.maximum(square, 0.0))
        return kernel

    def _factor(self, signal: Floats) -> Floats:
        """Cholesky factor of the covariance of the targets."""
        factor: Floats = scipy.linalg.cholesky(
            signal + (self._noise + 1e-6) * np.eye(len(signal)), lower=True, check_finite=False
        )
        return factor

    def condition(self, rows: Floats, targets: Floats, stopped: Floats | None = None) -> None:
        """Take these results for the known ones, with the kernel as it is."""
        self._rows = rows = self._whole(rows, stopped)
        self._lower = self._factor(self._kernel(rows, rows))
        self._alpha = scipy.linalg.cho_solve((self._lower, True), targets, check_finite=False)

    def posterior(self, rows: Floats, pending: Floats | None = None) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the signal at ``rows``: ``[len(rows)]`` each.

        ``pending`` rows count as known, with the mean for their result (kriging believer, Ginsbourger et al., 2010):
        that leaves the mean as it is and takes the uncertainty away around them.
        """
        rows = self._whole(rows)
        across = self._kernel(rows, self._rows)
        mean: Floats = across @ self._alpha
        lower = self._lower
        if pending is not None and len(pending):
            known = np.concatenate([self._rows, self._whole(pending)])
            lower, across = self._factor(self._kernel(known, known)), self._kernel(rows, known)
        solved = scipy.linalg.solve_triangular(lower, across.T, lower=True, check_finite=False)
        alone = self._variance + self._slant * (rows * rows) @ self._prior.lines
        return mean, np.sqrt(np.maximum(alone - (solved * solved).sum(axis=0), 1e-10))


def _by_weight(pull: Floats, rows: Floats) -> Floats:
    """Derivative of a loss by the weights of columns: ``pull`` is that by the kernel's entries, times these."""
    found: Floats = ((pull @ rows) * rows).sum(axis=0) - (rows * rows).T @ pull.sum(axis=1)
    return found


def log_expected_improvement(mean: Floats, deviation: Floats, best: float) -> Floats:
    """Logarithm of the expected improvement over ``best``, more is better: it orders candidates where EI is 0."""
    z = (mean - best) / deviation
    log_density = -0.5 * z * z - 0.5 * math.log(2 * math.pi)
    # φ(z) + zΦ(z) = φ(z) (1 + zΦ(z)/φ(z)); far below 0 that is φ(z)/z² (Ament et al., NeurIPS 2023).
    ratio = 1 + z * np.exp(np.minimum(scipy.special.log_ndtr(z) - log_density, 500.0))
    inner = np.where(z > -5, np.log(np.maximum(ratio, 1e-300)), -np.log(np.maximum(z * z + 2, 1.0)))
    # Far above 0 there is nothing to gain but what is expected, and φ(z) is too small to divide by.
    result: Floats = np.where(z > 30, np.log(np.maximum(mean - best, 1e-300)), np.log(deviation) + log_density + inner)
    return result


def targets(trials: Sequence[ObservedTrial], objectives: Sequence[Objective]) -> Floats:
    """What the surrogate learns: normal scores of the ranks of ``trials``, more is better: ``[len(trials)]``.

    Ranks need no scale, serve several objectives, and place pruned trials (among those that were pruned at the same
    epoch) behind completed ones.
    """
    count = len(trials)
    return np.asarray(scipy.special.ndtri((merits(trials, objectives) * (count - 1) + 0.5) / count), dtype=np.float64)

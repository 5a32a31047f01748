"""What a benchmark says of its runs: means with their errors, and paired comparisons over equal seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from workers.tables import Floats

FLOOR = 1e-3
"""Normalised regret below this counts as this in the headline."""


def curve(changes: Sequence[Sequence[float]], length: int) -> Floats:
    """[length] regret after each network, of (network, regret) where it changed; the last one lasts to the end."""
    found = np.empty(length)
    for (start, value), end in zip(changes, [*(int(start) for start, _ in changes[1:]), length + 1], strict=True):
        found[int(start) - 1 : end - 1] = value
    return found


def headline(regret: Floats, spread: float) -> float:
    """Mean over runs of log10 of regret / ``spread``, at least FLOOR; spread is optimum - median of the table."""
    return float(np.log10(np.maximum(regret / spread, FLOOR)).mean())


def standard_error(values: Sequence[float] | Floats) -> float:
    """Of the mean; NaN for fewer than two values."""
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan


@dataclass(frozen=True)
class Paired:
    """``differences = one - other`` over equal seeds, less is better."""

    mean: float
    share: float
    """Of the seeds on which ``one`` is better, a tie counts half."""
    p: float
    """Wilcoxon's signed-rank test, two-sided."""


def paired(one: Sequence[float] | Floats, other: Sequence[float] | Floats) -> Paired:
    """Compare two strategies over the same seeds."""
    differences = np.asarray(one, np.float64) - np.asarray(other, np.float64)
    share = float(((differences < 0) + 0.5 * (differences == 0)).mean())
    return Paired(float(differences.mean()), share, wilcoxon(differences))


def wilcoxon(differences: Floats) -> float:
    """Two-sided p of the signed-rank test by the normal approximation, ties corrected; 1 where nothing differs.

    Wilcoxon, Biometrics Bulletin 1, 1945; zeros are left out.
    """
    if not np.any(differences):
        return 1.0
    return float(stats.wilcoxon(differences, zero_method="wilcox", correction=True, method="asymptotic").pvalue)


def capped_mean(counts: Sequence[int | None], cap: int) -> tuple[float, float]:
    """Mean of evaluations where those that never came count as ``cap``, and the share that came."""
    return float(np.mean([cap if c is None else c for c in counts])), float(np.mean([c is not None for c in counts]))

"""The last stage of a search, on a table: the best observed are trained again, and the best mean of that wins.

The finalists' trainings are paid from the same budget as the search. A table has two or three trainings of a network,
and their mean is what counts as true, so new trainings come closer to it than they would in life: see decision 11.
"""

from __future__ import annotations

import numpy as np

from nas_service.benchmark.simulation import POINTS, Run
from workers.tables import Floats, Table

TOP, AGAIN = 3, 2
"""Finalists, and new trainings of each."""
COST = TOP * AGAIN
"""Trainings that finalists take from the budget; where the table has only one new training of them, they pay for two.
"""


def winner(run: Run, table: Table, budget: int) -> int:
    """Row of the winner after ``budget`` trainings: those of the search, and in the end ``COST`` of finalists."""
    values = np.array(run.values[: budget - COST])
    best = np.argsort(-values, kind="stable")[:TOP]
    means = [_others(table.validation[run.rows[i]], values[i])[:AGAIN].mean() for i in best]
    return run.rows[int(best[int(np.argmax(means))])]


def _others(trained: Floats, seen: float) -> Floats:
    """The trainings of a row in the table without the one that the search has seen; this one where it is alone."""
    trained = trained[np.isfinite(trained)]
    return np.delete(trained, np.argmin(np.abs(trained - seen))) if len(trained) > 1 else trained


def regret_with_finalists(run: Run, table: Table, budget: int) -> float:
    """Points that the true validation accuracy of the winner lies below the optimum."""
    return POINTS * (table.optimum - float(table.mean[winner(run, table, budget)]))

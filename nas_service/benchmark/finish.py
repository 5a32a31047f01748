"""The last stage of a search, on a table: the best networks are trained again, and the best mean wins.

It is paid from the same budget: after ``budget`` trainings, of which the last are those of the finalists.
"""

from __future__ import annotations

import numpy as np

from nas_service.benchmark.simulation import POINTS, Run
from workers.tables import Floats, Table

TOP, AGAIN = 3, 2
"""Finalists, and how often each is trained again: ``"finalists": {"top_k": 3, "seeds": [0, 1]}``."""


def finished(run: Run, table: Table, budget: int) -> int:
    """Row of the winner, of a search that trained ``budget - TOP * AGAIN`` networks and then its finalists."""
    values = np.array(run.values[: budget - TOP * AGAIN])
    best = np.argsort(-values, kind="stable")[:TOP]
    means = [_others(table.validation[run.rows[i]], values[i])[:AGAIN].mean() for i in best]
    return run.rows[int(best[int(np.argmax(means))])]


def _others(trained: Floats, seen: float) -> Floats:
    """The trainings of a row in the table without the one that the search has seen; this one where it is alone."""
    trained = trained[np.isfinite(trained)]
    return np.delete(trained, np.argmin(np.abs(trained - seen))) if len(trained) > 1 else trained


def regret_after_finalists(run: Run, table: Table, budget: int) -> float:
    """Points that the true validation accuracy of the winner lies below the optimum."""
    return POINTS * (table.optimum - float(table.mean[finished(run, table, budget)]))

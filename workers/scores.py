"""Names of the scores by task and of the zero-cost scores, and their joint rank, for those who need no torch."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

METRICS: dict[str, tuple[str, ...]] = {
    "classification": ("accuracy",),
    "segmentation": ("miou", "pixel_accuracy"),
    "localisation": ("accuracy_at_iou50", "accuracy", "iou"),
}
"""Each 0 to 1, the greater the better. The first is the task's own: objectives, best epochs and winners go by it where
nobody asks for another."""


def own_score(task: str) -> str:
    """The task's own score on the validation part: val_accuracy, val_miou, …"""
    return f"val_{METRICS[task][0]}"


ZeroCostName = Literal[
    "params",
    "macs",
    "grad_norm",
    "snip",
    "synflow",
    "jacov",
    "nwot",
    "zen",
    "az_expressivity",
    "az_progressivity",
    "az_trainability",
]
PREFIX = "zc_"
"""Before the name of a zero-cost score among the figures of a trial, and the columns of a table."""
ZERO_COST: tuple[ZeroCostName, ...] = get_args(ZeroCostName)
"""What ``workers.proxies`` tells of an untrained network; more is better."""


def ranked(population: Sequence[Mapping[str, float]], names: Sequence[str]) -> list[float]:
    """Sum over ``names`` of log(rank / n) of each member among all, n the best: 0 at most, more is better.

    Members without a finite value share the lowest rank. Source: AZ-NAS, arXiv 2403.19232, for joining scores.
    """
    totals = [0.0] * len(population)
    for name in names:
        values = [member.get(name, math.nan) for member in population]
        order = sorted({value for value in values if math.isfinite(value)})
        below = dict.fromkeys(order, 0)
        for value in values:
            if math.isfinite(value):
                below[value] += 1
        rank, reached = {}, sum(not math.isfinite(value) for value in values)
        for value in order:
            reached += below[value]
            rank[value] = reached
        for i, value in enumerate(values):
            totals[i] += math.log(rank.get(value, 1) / len(values))
    return totals

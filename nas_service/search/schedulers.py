"""Which candidates go on: asked after each epoch, rebuilt after a crash from the reports of trials that have ended."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from nas_service.search.request import SCORES, SchedulerSpec
from nas_service.strategies.protocol import Objective

ASHA_METRICS = (*SCORES, "val_loss")


class Scheduler(Protocol):
    """Stops weak candidates early."""

    def decides(self, epoch: int) -> bool:
        """Whether a candidate may be stopped for its figures after this epoch; if not, its worker need not wait."""
        ...

    def stops(self, key: str, report: Mapping[str, Any]) -> bool:
        """Take in one report of the candidate ``key``; True: it does not go on."""
        ...


class Everyone:
    """Every candidate runs to its last epoch."""

    def decides(self, epoch: int) -> bool:
        return False

    def stops(self, key: str, report: Mapping[str, Any]) -> bool:
        return False


@dataclass(frozen=True)
class Named:
    """All that Ray Tune's ASHA wants to know of a trial."""

    trial_id: str


class Asha:
    """Asynchronous successive halving (Li et al. 2020, arXiv 1810.05934), by Ray Tune's implementation."""

    def __init__(self, spec: SchedulerSpec, objective: Objective) -> None:
        from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler  # a second that only ASHA has to pay

        self._stop = TrialScheduler.STOP
        self._asha = AsyncHyperBandScheduler(
            time_attr="epoch",
            metric=objective.metric,
            mode="max" if objective.direction == "maximize" else "min",
            max_t=spec.max_epochs,
            grace_period=spec.min_epochs,
            reduction_factor=spec.reduction_factor,
        )
        self._rungs = set()
        rung = float(spec.min_epochs)
        while rung <= spec.max_epochs:
            self._rungs.add(math.ceil(rung))
            rung *= spec.reduction_factor
        self._known: dict[str, Named] = {}

    def decides(self, epoch: int) -> bool:
        return epoch in self._rungs

    def stops(self, key: str, report: Mapping[str, Any]) -> bool:
        if key not in self._known:
            self._known[key] = Named(key)
            self._asha.on_trial_add(None, self._known[key])
        return bool(self._asha.on_trial_result(None, self._known[key], dict(report)) == self._stop)


def scheduler_of(
    spec: SchedulerSpec,
    objectives: Sequence[Objective],
    history: Sequence[tuple[int, Mapping[str, Any]]],
    score: str = "val_accuracy",
) -> Scheduler:
    """The scheduler that the request asks for; its rungs are rebuilt from ``history``, (trial, report) each.

    asha looks at the first objective that is known at every epoch, at ``score`` where there is none.
    """
    if spec.name == "none":
        return Everyone()
    objective = next((o for o in objectives if o.metric in ASHA_METRICS), Objective(score, "maximize"))
    scheduler = Asha(spec, objective)
    for number, report in history:
        scheduler.stops(str(number), report)
    return scheduler

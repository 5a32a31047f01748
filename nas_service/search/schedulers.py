"""Which candidates go on: asked after each epoch, rebuilt after a crash from the reports of trials that have ended."""

from __future__ import annotations

import math
import statistics
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from nas_service.search.request import SCORES, SchedulerSpec
from nas_service.strategies.protocol import Objective

EVERY_EPOCH = (*SCORES, "val_loss")


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


class Hyperband:
    """Asynchronous Hyperband (Li et al. 2018, arXiv 1603.06560; 2020, arXiv 1810.05934): ASHA in several brackets.

    Bracket s has its first rung at min_epochs * reduction_factor ** s, so that some candidates are not judged by their
    first epochs. Candidates go to brackets in turn, to each as many as give it about the same share of the epochs.
    """

    def __init__(self, spec: SchedulerSpec, objective: Objective) -> None:
        self._brackets = []
        first = spec.min_epochs
        while first <= spec.max_epochs:
            self._brackets.append(Asha(spec.model_copy(update={"min_epochs": first}), objective))
            first *= spec.reduction_factor
        rungs = len(self._brackets)
        # With k rungs of factor r to go, a candidate trains for about k / r ** (k - 1) of max_epochs.
        sizes = [spec.reduction_factor ** (rungs - 1 - s) / (rungs - s) for s in range(rungs)]
        self._turns = [s for s, size in enumerate(sizes) for _ in range(max(1, round(size)))]

    def decides(self, epoch: int) -> bool:
        return self._brackets[0].decides(epoch)

    def stops(self, key: str, report: Mapping[str, Any]) -> bool:
        return self._brackets[self._turns[int(key) % len(self._turns)]].stops(key, report)


class Curves(ABC):
    """What schedulers share that compare whole learning curves; values are turned so that more is better."""

    def __init__(self, spec: SchedulerSpec, objective: Objective) -> None:
        self._spec, self._metric = spec, objective.metric
        self._sign = 1.0 if objective.direction == "maximize" else -1.0
        self._curves: dict[str, dict[int, float]] = {}

    def decides(self, epoch: int) -> bool:
        return self._spec.min_epochs <= epoch < self._spec.max_epochs

    def stops(self, key: str, report: Mapping[str, Any]) -> bool:
        value = report.get(self._metric)
        if value is None or not math.isfinite(value):
            return False
        epoch = int(report["epoch"])
        self._curves.setdefault(key, {})[epoch] = self._sign * float(value)
        return self.decides(epoch) and self._hopeless(key, epoch)

    @abstractmethod
    def _hopeless(self, key: str, epoch: int) -> bool:
        """Whether a candidate is to be stopped for its curve up to this epoch."""


class Median(Curves):
    """Median stopping (Golovin et al. 2017, Vizier): a candidate stops whose best value so far is below the median of
    the others' running means at the same epoch, once ``OTHERS`` of them have come so far."""

    OTHERS = 3

    def __init__(self, spec: SchedulerSpec, objective: Objective) -> None:
        super().__init__(spec, objective)
        self._means: dict[int, dict[str, float]] = {}
        """Running means by epoch and candidate."""

    def _hopeless(self, key: str, epoch: int) -> bool:
        curve, means = self._curves[key], self._means.setdefault(epoch, {})
        means[key] = statistics.fmean(value for at, value in curve.items() if at <= epoch)
        others = [mean for other, mean in means.items() if other != key]
        return len(others) >= self.OTHERS and max(curve.values()) < statistics.median(others)


class Extrapolation(Curves):
    """Stops a candidate whose learning curve, drawn out to max_epochs, stays below the best that any has reached.

    The curve is a power law a - b * epoch ** -c with c of a grid, fitted by least squares to all epochs but the first
    (Domhan et al., IJCAI 2015, whose pow3 it is); the candidate stops when even a value ``DEVIATIONS`` residual
    deviations above the prediction is below the best.
    """

    POINTS = 4
    DEVIATIONS = 2.0
    EXPONENTS = tuple(0.25 * i for i in range(1, 13))

    def __init__(self, spec: SchedulerSpec, objective: Objective) -> None:
        super().__init__(spec, objective)
        self._best = -math.inf
        """Best value of those that ran to their end."""

    def decides(self, epoch: int) -> bool:
        return super().decides(epoch) and epoch > self.POINTS

    def stops(self, key: str, report: Mapping[str, Any]) -> bool:
        stopped = super().stops(key, report)
        curve = self._curves.get(key, {})
        if self._spec.max_epochs in curve:
            self._best = max(self._best, *curve.values())
        return stopped

    def _hopeless(self, key: str, epoch: int) -> bool:
        epochs, values = zip(*sorted(self._curves[key].items())[1:], strict=True)
        if len(epochs) < self.POINTS:
            return False
        predicted, deviation = extrapolated(epochs, values, self._spec.max_epochs, self.EXPONENTS)
        return bool(max(predicted + self.DEVIATIONS * deviation, *values) < self._best)


def extrapolated(
    epochs: Sequence[int], values: Sequence[float], at: int, exponents: Sequence[float]
) -> tuple[float, float]:
    """Value of the fitted power law at epoch ``at``, and the deviation of the residuals. A falling fit is flat."""
    best: tuple[float, float] | None = None
    for exponent in exponents:
        x = [-(epoch**-exponent) for epoch in epochs]
        slope, intercept = statistics.linear_regression(x, values)
        if slope < 0:
            slope, intercept = 0.0, statistics.fmean(values)
        residuals = [y - intercept - slope * each for each, y in zip(x, values, strict=True)]
        deviation = math.sqrt(sum(r * r for r in residuals) / max(1, len(values) - 2))
        if best is None or deviation < best[1]:
            best = intercept - slope * at**-exponent, deviation
    assert best is not None, "there is at least one exponent"
    return best


SCHEDULERS: dict[str, Callable[[SchedulerSpec, Objective], Scheduler]] = {
    "asha": Asha,
    "hyperband": Hyperband,
    "median": Median,
    "curve": Extrapolation,
}


def scheduler_of(
    spec: SchedulerSpec,
    objectives: Sequence[Objective],
    history: Sequence[tuple[int, Mapping[str, Any]]],
    score: str = "val_accuracy",
) -> Scheduler:
    """The scheduler that the request asks for; its rungs are rebuilt from ``history``, (trial, report) each.

    They look at the first objective that is known at every epoch, at ``score`` where there is none.
    """
    if spec.name == "none":
        return Everyone()
    objective = next((o for o in objectives if o.metric in EVERY_EPOCH), Objective(score, "maximize"))
    scheduler = SCHEDULERS[spec.name](spec, objective)
    for number, report in history:
        scheduler.stops(str(number), report)
    return scheduler

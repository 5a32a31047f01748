"""Schedulers stop what will not win, leave alone what may, and are the same after a restart."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

import pytest

from nas_service.search.request import SchedulerSpec
from nas_service.search.schedulers import SCHEDULERS, Extrapolation, Scheduler, extrapolated, scheduler_of
from nas_service.strategies.protocol import Objective

ACCURACY = Objective("val_accuracy", "maximize")
LOSS = Objective("val_loss", "minimize")


def made(name: str, objective: Objective = ACCURACY, **options: int) -> Scheduler:
    return scheduler_of(SchedulerSpec.model_validate({"name": name, **options}), (objective,), [])


def epochs_run(scheduler: Scheduler, key: str, curve: Sequence[float], metric: str = "val_accuracy") -> int:
    """Epochs that a candidate with this learning curve trains."""
    for epoch, value in enumerate(curve, 1):
        stopped = scheduler.stops(key, {"epoch": epoch, metric: value})
        assert not stopped or scheduler.decides(epoch), "nobody waits at an epoch that decides nothing"
        if stopped:
            return epoch
    return len(curve)


def rising(end: float, speed: float = 1.0, epochs: int = 9) -> list[float]:
    return [end - 0.5 * epoch**-speed for epoch in range(1, epochs + 1)]


@pytest.mark.parametrize("name", sorted(SCHEDULERS))
def test_the_weak_are_stopped_and_the_best_is_not(name: str) -> None:
    scheduler = made(name, max_epochs=9)
    for key in range(12):
        assert epochs_run(scheduler, str(key), rising(0.8)) == 9 or name != "curve"
    assert epochs_run(scheduler, "12", rising(0.9)) == 9
    weak = [epochs_run(scheduler, str(key), rising(0.6)) for key in range(13, 25)]
    assert min(weak) < 9
    assert sum(weak) < 9 * len(weak)


@pytest.mark.parametrize("name", sorted(SCHEDULERS))
def test_less_is_better_where_it_is(name: str) -> None:
    scheduler = made(name, LOSS, max_epochs=9)
    for key in range(12):
        epochs_run(scheduler, str(key), [2 - value for value in rising(0.8)], "val_loss")
    assert epochs_run(scheduler, "12", [2 - value for value in rising(0.9)], "val_loss") == 9
    assert min(epochs_run(scheduler, str(k), [2 - v for v in rising(0.6)], "val_loss") for k in range(13, 25)) < 9


@pytest.mark.parametrize("name", sorted(SCHEDULERS))
def test_a_restart_changes_nothing(name: str) -> None:
    spec = SchedulerSpec.model_validate({"name": name, "max_epochs": 9})
    rng = random.Random(0)
    curves = [rising(rng.uniform(0.4, 0.9), rng.uniform(0.3, 2)) for _ in range(40)]
    whole = scheduler_of(spec, (ACCURACY,), [])
    lengths = [epochs_run(whole, str(key), curve) for key, curve in enumerate(curves)]
    assert len(set(lengths)) > 1
    history = [
        (key, {"epoch": epoch, "val_accuracy": curves[key][epoch - 1]})
        for key in range(20)
        for epoch in range(1, lengths[key] + 1)
    ]
    later = scheduler_of(spec, (ACCURACY,), history)
    assert [epochs_run(later, str(key), curves[key]) for key in range(20, 40)] == lengths[20:]


def test_hyperband_judges_some_late() -> None:
    """A candidate that begins weakly and ends best survives in a late bracket alone."""
    late_bloomer = [0.1] * 6 + [0.95] * 3
    lengths = set()
    for turn in range(12):
        scheduler = made("hyperband", max_epochs=9)
        for key in range(200, 260):
            epochs_run(scheduler, str(key), rising(0.8))
        lengths.add(epochs_run(scheduler, str(turn), late_bloomer))
    assert lengths == {1, 3, 9}
    assert epochs_run(made("none", max_epochs=9), "0", late_bloomer) == 9


def test_median_waits_for_others() -> None:
    scheduler = made("median", max_epochs=9)
    assert epochs_run(scheduler, "0", rising(0.9)) == 9
    assert epochs_run(scheduler, "1", rising(0.9)) == 9
    assert epochs_run(scheduler, "2", rising(0.2)) == 9, "two others are no median"
    assert epochs_run(scheduler, "3", rising(0.6)) == 1


def test_a_power_law_is_drawn_out_exactly() -> None:
    epochs = range(2, 9)
    predicted, deviation = extrapolated(epochs, [0.9 - 0.7 * e**-0.75 for e in epochs], 81, Extrapolation.EXPONENTS)
    assert predicted == pytest.approx(0.9 - 0.7 * 81**-0.75)
    assert deviation == pytest.approx(0, abs=1e-9)
    falling, _ = extrapolated(epochs, [0.9 - 0.01 * e for e in epochs], 81, Extrapolation.EXPONENTS)
    assert falling == pytest.approx(0.85), "what falls is not expected to rise or to fall on"


def test_curves_that_still_rise_go_on() -> None:
    scheduler = made("curve", max_epochs=27)
    assert epochs_run(scheduler, "0", rising(0.8, 1.0, 27)) == 27
    slow = [0.95 - 0.8 * epoch**-0.5 for epoch in range(1, 28)]
    assert slow[10] < 0.75
    assert epochs_run(scheduler, "1", slow) == 27
    flat = [0.5, *[0.7] * 26]
    assert epochs_run(scheduler, "2", flat) == Extrapolation.POINTS + 1


@pytest.mark.parametrize("name", ["median", "curve"])
def test_a_decision_among_thousands_is_quick(name: str) -> None:
    scheduler = made(name, max_epochs=9)
    for key in range(3000):
        epochs_run(scheduler, str(key), rising(0.5 + key / 10_000))
    started = time.process_time()
    for key in range(3000, 3100):
        epochs_run(scheduler, str(key), rising(0.9))
    assert time.process_time() - started < 1.5


def test_figures_that_are_missing_decide_nothing() -> None:
    for name in ("median", "curve"):
        scheduler = made(name, max_epochs=9)
        for key in range(5):
            epochs_run(scheduler, str(key), rising(0.9))
        assert not scheduler.stops("5", {"epoch": 8, "val_loss": 1.0})
        assert not scheduler.stops("5", {"epoch": 8, "val_accuracy": float("nan")})

"""Soft wishes about costs change what is best, as MnasNet's reward does."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from nas_service.database.session import Database
from nas_service.search.finalists import choose_winner
from nas_service.search.request import ObjectiveSpec, SearchRequest
from nas_service.settings import Settings
from tests.conftest import drill
from tests.nas_service.search.benches import Bench


def objective(*soft: dict[str, Any], **changes: Any) -> ObjectiveSpec:
    return ObjectiveSpec.model_validate({"metric": "val_accuracy", "soft": list(soft), **changes})


def test_mnasnet_reward() -> None:
    """5 % more accuracy for twice the latency is a draw, says the paper of its exponent."""
    wanted = objective({"metric": "latency_ms", "target": 80.0})
    slow = wanted.value({"val_accuracy": 0.5 * 1.05, "latency_ms": 160})
    fast = wanted.value({"val_accuracy": 0.5, "latency_ms": 80})
    assert fast == 0.5
    assert slow == pytest.approx(fast, rel=0.001)
    assert wanted.value({"val_accuracy": 0.5}) is None
    assert wanted.value({"latency_ms": 80}) is None


def test_one_side_and_several_wishes() -> None:
    hard = objective({"metric": "macs", "target": 100, "exponent": -1, "side": "above"})
    assert hard.value({"val_accuracy": 0.5, "macs": 50}) == 0.5
    assert hard.value({"val_accuracy": 0.5, "macs": 200}) == 0.25
    both = objective({"metric": "macs", "target": 100}, {"metric": "params", "target": 10, "exponent": -1})
    found = both.value({"val_accuracy": 0.5, "macs": 200, "params": 20})
    assert found == pytest.approx(0.5 * 2**-0.07 / 2)


def test_wishes_far_from_their_targets_stay_numbers() -> None:
    for target, cost in ((1e30, 0), (1e300, 1), (1e-320, 1e12)):
        wishes = [{"metric": m, "target": target, "exponent": -10.0} for m in ("macs", "params", "depth", "latency_ms")]
        found = objective(*wishes).value(
            {"val_accuracy": 0.5, **dict.fromkeys(("macs", "params", "depth", "latency_ms"), cost)}
        )
        assert found is not None
        assert 0 < found < math.inf


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"metric": "val_loss", "soft": [{"metric": "macs", "target": 1}]}, "soft goes with a score; 'val_loss'"),
        ({"metric": "val_accuracy", "soft": [{"metric": "macs", "target": 0}]}, "greater than 0"),
        ({"metric": "val_accuracy", "soft": [{"metric": "luck", "target": 1}]}, "latency_ms"),
        ({"metric": "val_accuracy", "direction": "minimize", "soft": [{"metric": "macs", "target": 1}]}, "maximized"),
    ],
)
def test_wrong_wishes_are_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        ObjectiveSpec.model_validate(given)


def test_latency_is_measured_for_a_wish() -> None:
    wished = drill(3, objectives=[objective({"metric": "latency_ms", "target": 8}, batch_size=4).model_dump()])
    assert SearchRequest.model_validate(wished).latency_batch == 4
    assert SearchRequest.model_validate(drill(3)).latency_batch is None


def test_the_winner_is_the_best_compromise(sqlite: Database, settings: Settings) -> None:
    wish = objective({"metric": "params", "target": 100, "exponent": -5.0}).model_dump()
    bench = Bench(sqlite, settings, widths=(12, 4, 24), objectives=[wish])
    trials = bench.run()
    chosen = choose_winner(bench.plan, sqlite, bench.id)
    assert chosen is not None
    assert chosen.trial == 1, "the smallest network"
    assert [t.values for t in trials] == [
        [pytest.approx(t.metrics["val_accuracy"] * (t.metrics["params"] / 100) ** -5.0)] for t in trials
    ]

"""How many networks a search scores, by what its trainings take."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nas_service.search.plan import Plan, make_plan
from nas_service.search.request import SearchRequest
from nas_service.settings import Settings
from tests.conftest import drill
from tests.nas_service.search.benches import INFO
from workers.datasets import DatasetSource

LONG = {"scheduler": {"name": "none", "max_epochs": 20}}


def planned(settings: Settings, train: int, **changes: Any) -> Plan:
    body = {"evaluator": {"name": "train"}, "strategy": {"name": "auto"}, "resources": {"max_parallel": 1}, **changes}
    request = SearchRequest.model_validate(drill(30, **body))
    return make_plan(request, DatasetSource(name="digits", format="digits"), replace(INFO, train=train), settings)


@pytest.mark.parametrize(
    ("train", "changes", "wanted"),
    [
        (60_000, LONG, (300, 16)),
        (60_000, LONG | {"dataset": {"name": "digits", "max_train": 500}}, (225, 12)),
        (60_000, LONG | {"resources": {"max_parallel": 150}}, (144, 8)),
        (60_000, LONG | {"resources": {"max_parallel": 5, "gpus": 1}}, (144, 8)),
        (60_000, LONG | {"resources": {"max_parallel": 20, "gpus": 0.25}}, (144, 8)),
        (60_000, LONG | {"strategy": {"name": "auto", "pool": None}, "resources": {"max_parallel": 150}}, (144, 8)),
        (60_000, LONG | {"budget": {"max_trials": 30, "max_seconds": 600}}, (50, 16)),
        (60_000, LONG | {"budget": {"max_trials": 5}}, (50, 16)),
        (60_000, LONG | {"strategy": {"name": "auto", "pool": 400}}, (400, 16)),
        (500, {"strategy": {"name": "auto", "pool": 400, "scored": 100}}, (400, 100)),
        (500, LONG, (180, 10)),
        (100, LONG | {"strategy": {"name": "auto", "scored": 3}}, (72, 3)),
    ],
)
def test_scores_take_a_share_of_the_trainings(
    settings: Settings, train: int, changes: dict[str, Any], wanted: tuple[int, int]
) -> None:
    plan = planned(settings, train, **changes)
    assert plan.scored
    assert (plan.strategy_config.pool, plan.strategy_config.scored) == wanted  # type: ignore[attr-defined]


def test_trainings_of_a_moment_have_no_scores(settings: Settings) -> None:
    assert not planned(settings, 20, scheduler={"name": "none", "max_epochs": 1}).scored
    pooled = {"name": "auto", "pool": 20}
    assert planned(settings, 20, scheduler={"name": "none", "max_epochs": 1}, strategy=pooled).scored, "asked for"


def test_who_does_not_train_has_no_scores(settings: Settings) -> None:
    plan = planned(settings, 60_000, evaluator={"name": "drill", "settings": {"seconds_per_epoch": 0}}, **LONG)
    assert not plan.scored

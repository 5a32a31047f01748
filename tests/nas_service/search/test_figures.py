"""Figures of a search as data: what is drawn, how large, in which order."""

from __future__ import annotations

from typing import Any

import pytest

from nas_service.database.session import Database
from nas_service.database.tables import Search, Trial
from nas_service.settings import Settings
from nas_service.strategies.protocol import Objective
from nas_service.web.figures import BARS, bars, bubbles, learned
from tests.nas_service.search.benches import Bench

OBJECTIVES = (Objective("val_accuracy", "maximize"),)


def trial(number: int, accuracy: float, params: int, memory: float = 1.0, **fields: Any) -> Trial:
    metrics = {"val_accuracy": accuracy, "params": params, "macs": 10 * params, "memory_mb": memory}
    return Trial(**{"number": number, "state": "completed", "metrics": metrics, **fields})


SOME = [
    trial(0, 0.9, 2_000_000, 10.0),
    trial(1, 0.8, 500_000, 40.0),
    trial(2, 0.95, 4_000_000, 20.0),
    trial(3, 0.99, 1_000, state="pruned"),
    trial(4, 0.5, 100, metrics={}),
]


def test_bars_are_the_best_networks() -> None:
    (trace,) = bars(SOME)["data"]
    assert (trace["type"], trace["x"], trace["y"]) == ("bar", ["2", "0", "1"], [0.95, 0.9, 0.8])
    many = [trial(number, number / 100, 10) for number in range(50)]
    assert bars(many)["data"][0]["x"] == [str(number) for number in range(49, 49 - BARS, -1)]
    assert bars([])["data"] == bars(SOME[3:])["data"] == []


def test_density_is_the_score_per_million_parameters() -> None:
    figure = bars(SOME, per_million_parameters=True)
    (trace,) = figure["data"]
    assert trace["x"] == ["1", "0", "2"]
    assert trace["y"] == pytest.approx([0.8 / 0.5, 0.9 / 2, 0.95 / 4])
    assert trace["customdata"][0] == [0.8, 500_000]
    assert figure["layout"]["yaxis"]["title"]["text"] == "validation accuracy / M parameters"


def test_the_area_of_a_bubble_is_a_cost() -> None:
    for area, sizes in (("params", [2_000_000, 500_000, 4_000_000]), ("memory_mb", [10.0, 40.0, 20.0])):
        figure = bubbles(SOME, OBJECTIVES, area=area)
        assert figure["data"][0]["marker"]["size"] == sizes
        assert figure["data"][0]["marker"]["sizemode"] == "area"
    assert "memory [MB] %{customdata[1]" in figure["data"][0]["hovertemplate"]


@pytest.mark.parametrize(
    ("request_body", "names", "titles"),
    [
        ({"strategy": {"name": "rl"}}, {"reward", "baseline", "entropy"}, ["reward, baseline", "entropy [nats]"]),
        (
            {"strategy": {"name": "auto", "initial": 3}},
            {"steps from earlier trials", "random and far ones"},
            ["share of results beaten"],
        ),
        (
            {"strategy": {"name": "auto", "initial": 3, "pool": 10}, "evaluator": {"name": "train"}},
            {"best by zero-cost scores", "rank correlation of scores and results"},
            ["share of results beaten", "rank correlation"],
        ),
        ({"strategy": {"name": "random"}}, set(), ["share of results beaten"]),
    ],
    ids=["rl", "auto", "auto with scores", "random"],
)
def test_what_a_strategy_learned_is_drawn(
    sqlite: Database, settings: Settings, request_body: dict[str, Any], names: set[str], titles: list[str]
) -> None:
    bench = Bench(sqlite, settings, space={"name": "residual", "depths": [1, 2], "widths": [4, 8]},
                  budget={"max_trials": 6}, **request_body)  # fmt: skip
    bench.run()
    with sqlite.read() as session:
        figure = learned(session, session.get_one(Search, bench.id))
    assert names <= {trace["name"] for trace in figure["data"]}
    assert bool(names) == bool(figure["data"])
    axes = [figure["layout"][axis]["title"]["text"] for axis in ("yaxis", "yaxis2") if axis in figure["layout"]]
    assert axes == titles

"""A screen trains those of several proposals that their untrained networks speak for."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydantic import ValidationError

from nas_service.database.session import Database
from nas_service.database.tables import Event, Trial
from nas_service.search.request import SearchRequest
from nas_service.search.scoring import FOR_STRATEGIES, Scorer
from nas_service.settings import Settings
from search_spaces.architecture import Architecture, Node, Task
from search_spaces.build import walk
from search_spaces.cost import costs_of
from tests.conftest import drill
from tests.nas_service.search.benches import WIDTHS, Bench
from workers.proxies import scores

TRAINED = {"evaluator": {"name": "train"}, "budget": {"max_trials": 4}}
MACS = {"scores": ["macs"], "candidates_per_trial": len(WIDTHS)}


def trained(bench: Bench) -> list[Trial]:
    with bench.database.read() as session:
        query = sa.select(Trial).where(Trial.search_id == bench.id).order_by(Trial.number)
        return list(session.scalars(query))


def widths(trials: list[Trial]) -> list[int]:
    return [trial.questions[0][2] for trial in trials]


def test_the_best_of_several_proposals_is_trained(sqlite: Database, settings: Settings) -> None:
    bench = Bench(sqlite, settings, screen=MACS)
    bench.run()
    assert widths(trained(bench)) == [24, 20, 16], "the largest that was not trained yet"


def test_what_would_not_be_trained_is_not_picked(sqlite: Database, settings: Settings) -> None:
    largest = scores(one(16), ["params"])["params"]
    bench = Bench(sqlite, settings, screen=MACS, constraints=[{"metric": "params", "max": largest}])
    bench.run()
    assert widths(trained(bench)) == [16, 12, 8]


def test_scores_are_listed_and_survive_a_restart(sqlite: Database, settings: Settings) -> None:
    bench = Bench(sqlite, settings, screen={"scores": ["synflow", "macs"], "candidates_per_trial": 2})
    bench.run()
    for trial in trained(bench):
        expected = scores(one(trial.questions[0][2]), ["synflow"])["synflow"]
        assert trial.metrics["zc_synflow"] == pytest.approx(expected)
        assert "zc_macs" not in trial.metrics, "costs have their own name"


def test_who_waits_for_scores_is_told(sqlite: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas_service.search.candidates.SCORED_UNTOLD", 4)
    bench = Bench(sqlite, settings, screen=MACS)
    bench.run()
    with bench.database.read() as session:
        query = sa.select(Event.data).where(Event.search_id == bench.id, Event.kind == "reason").order_by(Event.number)
        told = [data["reason"] for data in session.scalars(query)]
    assert told == ["computes zero-cost scores of untrained networks: 4 so far", ""], (
        "the later proposals knew them all"
    )


def one(width: int) -> Architecture:
    nodes = (Node("conv_norm_act", (0,), {"out_channels": width}), Node("classifier", (1,), {"classes": 10}))
    return Architecture(Task((1, 8, 8), 10), nodes)


def test_a_network_is_scored_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def counted(architecture: Architecture, names: list[str]) -> dict[str, float]:
        asked.append(names)
        return scores(architecture, names)

    monkeypatch.setattr("nas_service.search.scoring.scores", counted)
    scorer = Scorer()
    first = scorer(one(8))
    assert scorer(one(8)) == first
    scorer(one(8), ["macs", "snip"])
    assert asked == [list(FOR_STRATEGIES), ["snip"]]


def refused(architecture: Architecture, names: list[str]) -> dict[str, float]:
    raise AssertionError(f"{names} of {architecture.fingerprint()} are known")


def test_scores_outlive_their_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "search" / "scores.jsonl"
    first = Scorer(file)
    found = {width: first(one(width), ["macs", "snip"]) for width in (4, 8)}
    with file.open("a") as torn:
        torn.write('["a network", {"macs": 1')
    later = Scorer(file)
    monkeypatch.setattr("nas_service.search.scoring.scores", refused)
    assert {width: later(one(width), ["macs", "snip"]) for width in (4, 8)} == found
    assert later.told(one(4).fingerprint()) == {"zc_snip": found[4]["snip"]}


class Killed(BaseException):
    """The end of a driver."""


def test_a_network_whose_scores_end_two_drivers_gets_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "scores.jsonl"

    def killed(architecture: Architecture, names: list[str]) -> dict[str, float]:
        raise Killed

    monkeypatch.setattr("nas_service.search.scoring.scores", killed)
    for _ in range(2):
        with pytest.raises(Killed):
            Scorer(file)(one(8), ["macs"])
    third = Scorer(file)
    assert math.isnan(third(one(8), ["macs"])["macs"])
    assert "two drivers ended" in caplog.text
    monkeypatch.undo()
    assert third(one(4), ["macs"])["macs"] > 0
    assert math.isnan(Scorer(file)(one(8), ["macs"])["macs"]), "it is not tried again"


def test_the_pool_is_not_scored_again_after_a_restart(
    sqlite: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(sqlite, settings, strategy={"name": "auto", "pool": 10}, **TRAINED)
    bench.run()
    monkeypatch.setattr("nas_service.search.scoring.scores", refused)
    bench.restart()


@pytest.mark.parametrize("by", ["spent", "stopping"])
def test_a_search_that_is_to_stop_does_not_score_the_rest_of_its_pool(
    sqlite: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    bench = Bench(sqlite, settings, strategy={"name": "auto", "pool": 100}, **TRAINED)
    asked: list[Architecture] = []

    def counted(architecture: Architecture, names: list[str]) -> dict[str, float]:
        asked.append(architecture)
        if len(asked) == 2:
            getattr(bench.control, by).set()
        return scores(architecture, names)

    monkeypatch.setattr("nas_service.search.scoring.scores", counted)
    assert bench.run() == [], "no trial is begun only to be cancelled"
    assert len(asked) == 2
    assert bench.candidates.reason == ("the budget of seconds is spent" if by == "spent" else "")
    bench.restart()
    trials = bench.run()
    assert [trial.state for trial in trials if trial.counted] == ["completed"] * 4
    assert asked[0] not in asked[2:], "what was computed before is known"


def test_scores_of_networks_that_break_a_bound_are_not_computed(
    sqlite: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def counted(architecture: Architecture, names: list[str]) -> dict[str, float]:
        asked.append(costs_of(walk(architecture)).params)
        return scores(architecture, names)

    monkeypatch.setattr("nas_service.search.scoring.scores", counted)
    bound = {"metric": "params", "max": costs_of(walk(one(8))).params}
    bench = Bench(sqlite, settings, strategy={"name": "auto", "pool": 20}, constraints=[bound], **TRAINED)
    trials = bench.run()
    assert asked
    assert max(asked) <= bound["max"]
    assert trials[0].state == "completed", "the best of the pool keeps the bound"


def test_a_network_without_scores_is_the_last(caplog: pytest.LogCaptureFixture) -> None:
    wrong = Architecture(Task((1, 8, 8), 10), (Node("conv_norm_act", (0,), {"out_channels": 4}),))
    assert all(map(math.isnan, Scorer()(wrong).values()))
    assert "no zero-cost scores" in caplog.text


@pytest.mark.parametrize(
    ("screen", "told"),
    [
        ({"scores": ["luck"]}, "scores"),
        ({"scores": ["nwot", "nwot"]}, "scores names a score twice"),
        ({"candidates_per_trial": 1}, "greater than or equal to 2"),
    ],
)
def test_wrong_screens_are_refused(screen: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        SearchRequest.model_validate(drill(3, screen=screen))

"""A screen trains those of several proposals that their untrained networks speak for."""

from __future__ import annotations

import math

import pytest
import sqlalchemy as sa
from pydantic import ValidationError

from nas_service.database.session import Database
from nas_service.database.tables import Event, Trial
from nas_service.search.request import SearchRequest
from nas_service.search.scoring import FOR_STRATEGIES, Scorer
from nas_service.settings import Settings
from search_spaces.architecture import Architecture, Node, Task
from tests.conftest import drill
from tests.nas_service.search.benches import WIDTHS, Bench
from workers.proxies import scores

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
    later = Scorer()
    later.learn(one(8).fingerprint(), {**scorer.told(one(8).fingerprint()), "val_accuracy": 0.5})
    later.learn(one(8).fingerprint(), {"params": 9.0, "macs": 9.0, "latency_ms": 9.0})
    later(one(8))
    assert len(asked) == 2, "what was recorded is known"


def test_trained_networks_are_not_scored_again_after_a_restart(
    sqlite: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"evaluator": {"name": "train"}, "budget": {"max_trials": 4}}
    bench = Bench(sqlite, settings, strategy={"name": "auto", "pool": 10}, **body)
    known = {trial.fingerprint for trial in bench.run()}
    asked: list[str] = []

    def counted(architecture: Architecture, names: list[str]) -> dict[str, float]:
        asked.append(architecture.fingerprint())
        return scores(architecture, names)

    monkeypatch.setattr("nas_service.search.scoring.scores", counted)
    bench.restart()
    assert asked, "the pool is scored again"
    assert not known & set(asked)


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

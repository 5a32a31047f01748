"""The honesty report: its figures against what they should be, and a whole search that gets one."""

from __future__ import annotations

import itertools
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from sqlalchemy.orm import Session

from nas_service import cli
from nas_service.cli.replay import divergence
from nas_service.client import Client
from nas_service.database.session import Database
from nas_service.database.tables import Finalist, Search, Trial
from nas_service.search import status
from nas_service.search.driver import Driver
from nas_service.search.events import append_event
from nas_service.search.ranking import hypervolume, knee, scaled
from nas_service.search.report import Report, correlation, expected_best, report
from nas_service.search.report_text import markdown
from nas_service.search.request import SearchRequest
from tests.conftest import drill
from tests.nas_service.conftest import LocalServer

SMALL = {
    "dataset": {"name": "digits", "max_train": 300, "max_validation": 100},
    "space": {"name": "residual", "stages": 2, "depths": [1], "widths": [4, 8], "cardinalities": [1]},
    "strategy": {"name": "evolution", "population": 6, "sample": 3},
    "scheduler": {"name": "asha", "max_epochs": 2, "reduction_factor": 2},
    "recipe": {"batch_size": 32, "optimizer": {"name": "adamw", "lr": 0.004}},
    "budget": {"max_trials": 10},
    "finalists": {"top_k": 3, "epochs": 2, "seeds": [0, 1]},
    "resources": {"max_parallel": 1},
    "reuse": "search",
}


def test_expected_best_of_draws_with_replacement() -> None:
    sample = np.array([0.1, 0.4, 0.4, 0.9])
    draws = [max(drawn) for drawn in itertools.product(sample, repeat=3)]
    assert expected_best(sample, 3) == pytest.approx(np.mean(draws))


def test_correlation_has_an_interval() -> None:
    same = correlation([(i, i) for i in range(8)])
    assert same is not None
    assert (same.tau.value, same.tau.low, same.tau.high) == pytest.approx((1, 1, 1))
    assert same.pairs == 8
    rng = random.Random(0)
    none = correlation([(i, rng.random()) for i in range(30)])
    assert none is not None
    assert none.tau.low < 0 < none.tau.high
    assert correlation([(1, 0.5), (2, 0.5), (3, 0.5)]) is None


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4])
def test_hypervolume_is_the_dominated_share_of_the_box(dimensions: int) -> None:
    rng = np.random.default_rng(dimensions)
    points = rng.random((6, dimensions))
    places = rng.random((200_000, dimensions))
    dominated = np.any(np.all(points[None] <= places[:, None], axis=2), axis=1).mean()
    assert hypervolume(points.tolist()) == pytest.approx(dominated, abs=0.005)
    assert hypervolume([]) == hypervolume([[0.5] * (dimensions - 1) + [1.0]]) == 0
    assert hypervolume([[0.0] * dimensions]) == 1


def test_the_knee_is_where_a_front_bends() -> None:
    assert knee([(0, 10), (1, 3), (2, 2.9), (10, 0), (5, 5)]) == 1
    assert scaled([(1, 5), (3, 5)]) == [(0, 0), (1, 0)]


def stored(
    database: Database,
    values: list[float],
    *,
    seeds: dict[int, list[float]] | None = None,
    rows: dict[int, dict[str, Any]] | None = None,
    **changes: Any,
) -> str:
    """A search with completed trials of these accuracies, and full trainings of some; ``rows`` are columns of trials
    that differ."""
    request = SearchRequest.model_validate(drill(len(values), **changes))
    rng = random.Random(0)

    def work(session: Session) -> str:
        search = status.create(session, request, "a test")
        for number, value in enumerate(values):
            questions = [["matters", [0, 1], int(value > 0.7)], ["noise", [0, 1], rng.randrange(2)]]
            usual: dict[str, Any] = {
                "state": "completed", "fingerprint": f"{number:064d}", "questions": questions, "values": [value],
                "metrics": {"val_accuracy": value}, "created_at": 1.0, "observed_as": number + 1, "train_seconds": 36.0,
            }  # fmt: skip
            session.add(Trial(search_id=search.id, number=number, **{**usual, **(rows or {}).get(number, {})}))
        session.flush()
        for number, scores in (seeds or {}).items():
            for seed, score in enumerate(scores):
                curve = [{"epoch": 1, "seconds": 1800.0}]
                session.add(
                    Finalist(
                        search_id=search.id,
                        number=number,
                        seed=seed,
                        state="completed",
                        curve=curve,
                        metrics={"val_accuracy": score},
                    )
                )
        return search.id

    return database.write(work)


def told(database: Database, search_id: str) -> Report:
    with database.read() as session:
        return report(session, session.get_one(Search, search_id))


def test_random_search_of_the_same_kind_is_the_baseline(database: Database) -> None:
    alone = stored(database, [0.5, 0.9, 0.8])
    assert told(database, alone).baseline is None
    assert any("no random baseline: 0 random trials" in note for note in told(database, alone).notes)
    stored(database, [0.5, 0.6, 0.7, 0.8, 0.95, 0.6], strategy={"name": "random"})
    stored(database, [0.99] * 9, strategy={"name": "random"}, space={"name": "mbconv"})
    found = told(database, alone).baseline
    assert found is not None
    assert (found.sample, found.results, found.reached) == (6, 3, 0.9)
    assert found.chance.value == pytest.approx(1 - (5 / 6) ** 3)
    least, most = scipy.stats.beta(5.5, 1.5).ppf([0.025, 0.975])  # Jeffreys: of the share that is below
    assert (found.chance.low, found.chance.high) == pytest.approx((1 - most**3, 1 - least**3))
    assert found.expected_best.value == pytest.approx(expected_best(np.array([0.5, 0.6, 0.6, 0.7, 0.8, 0.95]), 3))
    assert found.expected_best.low < found.expected_best.value < found.expected_best.high


def test_few_random_trials_that_are_all_worse_leave_the_chance_open(database: Database) -> None:
    """None of six reached it: that says little about the best of thirty draws."""
    stored(database, [0.5, 0.6, 0.7, 0.8, 0.55, 0.6], strategy={"name": "random"})
    found = told(database, stored(database, [0.9 + 0.001 * i for i in range(30)])).baseline
    assert found is not None
    assert (found.chance.value, found.chance.low) == (0.0, 0.0)
    assert found.chance.high > 0.99
    stored(database, [0.5 + 0.0001 * i for i in range(1000)], strategy={"name": "random"})
    found = told(database, stored(database, [0.9 + 0.001 * i for i in range(30)])).baseline
    assert found is not None
    assert found.chance.high < 0.1


def test_a_learning_strategy_begins_with_its_own_baseline(database: Database) -> None:
    values = [0.5, 0.6, 0.55, 0.65, 0.6, 0.7, 0.9, 0.92]
    search = stored(database, values, strategy={"name": "evolution", "population": 6, "sample": 2})
    found = told(database, search).baseline
    assert found is not None
    assert (found.sample, found.source) == (6, "the random trials of this search")
    assert any("it can be too low" in note for note in told(database, search).notes)


RANDOM = {"name": "random"}
AUTO = {"name": "auto"}
SCORED = {"metrics": {"val_accuracy": 0.5, "zc_nwot": 1.0}}


@pytest.mark.parametrize(
    ("sample", "changes", "rows"),
    [
        (10, {"strategy": {"name": "evolution"}}, {}),
        (7, {"strategy": {"name": "evolution", "initial": 7}}, {}),
        (20, {"strategy": {"name": "nsga2"}}, {}),
        (6, {"strategy": AUTO}, {}),
        (6, {"strategy": AUTO, "first": ["lenet5"] * 2}, {}),
        (None, {"strategy": AUTO}, {3: SCORED}),
        (None, {"strategy": {"name": "rl"}}, {}),
        (24, {"strategy": RANDOM}, {}),
        (22, {"strategy": RANDOM, "first": ["lenet5", "lenet5"]}, {}),
        (None, {"strategy": RANDOM, "screen": {"scores": ["nwot"]}}, {}),
    ],
)
def test_the_baseline_is_of_random_trials(
    sqlite: Database, sample: int | None, changes: dict[str, Any], rows: dict[int, dict[str, Any]]
) -> None:
    found = told(sqlite, stored(sqlite, [0.5 + 0.01 * i for i in range(24)], rows=rows, **changes)).baseline
    assert (None if found is None else found.sample) == sample


def test_a_search_of_another_version_has_a_report(sqlite: Database) -> None:
    search = stored(sqlite, [0.5] * 12, strategy={"name": "evolution"})

    def change(session: Session) -> None:
        row = session.get_one(Search, search)
        row.request = {**row.request, "strategy": {"name": "evolution", "an_option_that_is_gone": 1}}

    sqlite.write(change)
    assert told(sqlite, search).baseline is None


def test_only_searches_alike_are_a_baseline(sqlite: Database) -> None:
    values = [0.5, 0.6, 0.7, 0.8, 0.9]
    for changes in ({"screen": {"scores": ["nwot"]}}, {"constraints": [{"metric": "params", "max": 1e6}]}):
        stored(sqlite, values, strategy=RANDOM, **changes)
    search = stored(sqlite, values, strategy={"name": "rl"})
    assert told(sqlite, search).baseline is None
    one = stored(sqlite, values, strategy=RANDOM)
    stored(sqlite, values, strategy=RANDOM, rows={i: {"reused_from": [one, i]} for i in range(5)})
    found = told(sqlite, search).baseline
    assert found is not None
    assert found.source == "1 random search with the same data, space and training"
    assert found.sample == 5, "a training that two share counts once"


def test_a_network_that_two_random_searches_drew_counts_once(sqlite: Database) -> None:
    """With equal seeds they draw the same networks; one that was stopped is trained again in the other search."""
    keys = [{"evaluation_key": f"{i:064d}"} for i in range(6)]
    stopped = {i: {**keys[i], "state": "pruned", "epoch": 1} for i in (0, 1, 2)}
    stored(sqlite, [0.4] * 3 + [0.5, 0.6, 0.7], strategy=RANDOM, rows={**dict(enumerate(keys)), **stopped})
    rows = {i: {**keys[i], **({"state": "pruned", "epoch": 1} if i in (0, 5) else {})} for i in range(6)}
    stored(sqlite, [0.8, 0.9, 0.95, 0.5, 0.6, 0.7], strategy=RANDOM, rows=rows)
    found = told(sqlite, stored(sqlite, [0.9] * 4, strategy={"name": "rl"})).baseline
    assert found is not None
    assert (found.sample, found.source[:17]) == (6, "2 random searches")
    best_of_each = np.array([0.5, 0.5, 0.6, 0.7, 0.9, 0.95])  # the one that both stopped counts as the worst
    assert found.expected_best.value == pytest.approx(expected_best(best_of_each, 4))


def test_random_searches_that_measured_something_else_are_no_baseline(sqlite: Database) -> None:
    def metrics(latency: float, device: str = "cpu") -> dict[int, dict[str, Any]]:
        figures = [{"latency_ms": latency + i, "val_accuracy": 0.5, "device": device} for i in range(6)]
        return {i: {"metrics": each, "values": [each["latency_ms"]]} for i, each in enumerate(figures)}

    wanted = {"strategy": RANDOM, "objectives": [{"metric": "latency_ms"}]}
    search = stored(sqlite, [0.5] * 6, rows=metrics(10.0), **wanted)
    stored(sqlite, [0.5] * 6, strategy=RANDOM)
    stored(sqlite, [0.5] * 6, rows=metrics(1.0, device="another"), **wanted)
    found = told(sqlite, search).baseline
    assert found is not None
    assert (found.sample, found.source) == (6, "the random trials of this search")
    stored(sqlite, [0.5] * 6, rows=metrics(12.0), **wanted)
    found = told(sqlite, search).baseline
    assert found is not None
    assert found.source[:15] == "1 random search"


def test_what_was_trained_before_is_a_result_and_a_repeat_is_none(sqlite: Database) -> None:
    values = [0.5, 0.9, 0.6]
    before = stored(sqlite, values)
    rows = {i: {"reused_from": [before, i]} for i in range(3)}
    found = told(sqlite, stored(sqlite, values, rows=rows))
    assert [(best.results, best.value) for best in found.best_so_far] == [(1, 0.5), (2, 0.9), (3, 0.9)]

    def repeat(session: Session) -> None:
        session.get_one(Trial, (before, 1)).reused_from = [before, 0]

    sqlite.write(repeat)
    assert told(sqlite, before).best_so_far[-1].value == 0.6


def test_a_stopped_trial_is_a_result_but_not_the_best(sqlite: Database) -> None:
    """One that trained for an epoch needed the fewest seconds: it cannot win."""
    objective = [{"metric": "train_seconds"}]
    rows = {
        i: {"metrics": {"train_seconds": 10.0 + i}, "values": [10.0 + i], "state": "completed"} for i in range(6)
    } | {i: {"metrics": {"train_seconds": 1.0}, "values": [1.0], "state": "pruned"} for i in (0, 4)}
    found = told(sqlite, stored(sqlite, [0.5] * 6, rows=rows, objectives=objective, strategy=RANDOM))
    assert [(best.results, best.value) for best in found.best_so_far] == [(2, 11.0), (5, 11.0), (6, 11.0)]
    assert found.baseline is not None
    assert (found.baseline.results, found.baseline.reached, found.baseline.sample) == (6, 11.0, 6)
    assert 11.0 <= found.baseline.expected_best.value < 12.0
    alone = told(sqlite, stored(sqlite, [0.5] * 6, rows={i: {"state": "pruned"} for i in range(6)}, strategy=RANDOM))
    assert (alone.best_so_far, alone.baseline) == ([], None)


def test_the_winner_changes_by_what_decides_it(sqlite: Database) -> None:
    """The larger network is more accurate with every seed, the smaller one has the better compromise."""
    wish = {"metric": "val_accuracy", "soft": [{"metric": "params", "target": 100.0, "exponent": -1.0}]}
    rows = {i: {"metrics": {"val_accuracy": 0.9, "params": params}} for i, params in enumerate((100, 200))}
    seeds = {0: [0.90, 0.91], 1: [0.90, 0.91]}
    found = told(sqlite, stored(sqlite, [0.9, 0.9], rows=rows, seeds=seeds, objectives=[wish]))
    assert found.noise is not None
    assert found.noise.winner_changes == 0
    plain = told(sqlite, stored(sqlite, [0.9, 0.9], rows=rows, seeds=seeds))
    assert plain.noise is not None
    assert plain.noise.winner_changes == pytest.approx(0.5, abs=0.05)


def test_a_search_without_a_single_result_has_a_report(sqlite: Database) -> None:
    rows = {i: {"state": "failed", "values": None, "metrics": {}} for i in range(3)}
    found = told(sqlite, stored(sqlite, [0.0] * 3, rows=rows))
    assert (found.best_so_far, found.baseline, found.noise, found.shares["failed"]) == ([], None, None, 1)
    assert "## What is not known" in markdown(found, "x")


def test_candidates_that_had_to_do_without_their_gpu_are_told(sqlite: Database) -> None:
    devices = {n: {"metrics": {"val_accuracy": 0.5, "device": name}} for n, name in enumerate(("cpu", "A100", "cpu"))}
    asked = stored(sqlite, [0.5, 0.5, 0.5], rows=devices, resources={"gpus": 0.5})
    content = stored(sqlite, [0.5, 0.5, 0.5], rows=devices)
    assert [note for note in told(sqlite, asked).notes if "GPU" in note] == [
        "2 candidates trained on a CPU, though each was to have a GPU: torch saw none there"
    ]
    assert not [note for note in told(sqlite, content).notes if "GPU" in note]


def test_hypervolume_of_many_points_is_quick() -> None:
    rng = np.random.default_rng(0)
    points = rng.random((5000, 2)).tolist()
    started = time.process_time()
    assert hypervolume(points) > 0.99
    assert time.process_time() - started < 2


def test_noise_of_seeds(database: Database) -> None:
    clear = stored(database, [0.9, 0.8, 0.7], seeds={0: [0.95, 0.96], 1: [0.80, 0.81], 2: [0.70, 0.71]})
    found = told(database, clear)
    assert found.noise is not None
    assert found.noise.sd == pytest.approx(0.00707, abs=1e-4)
    assert found.noise.winner_changes == 0
    assert found.noise.optimism < 0.001
    assert found.search_against_full_training is not None
    assert found.search_against_full_training.tau.value == pytest.approx(1)
    close = stored(database, [0.9] * 10, seeds={0: [0.90, 0.96], 1: [0.91, 0.95]})
    again = told(database, close)
    assert again.noise is not None
    assert again.noise.winner_changes == pytest.approx(0.5, abs=0.05)
    assert again.noise.optimism == pytest.approx(1.54 * again.noise.sd, rel=0.1), "the largest of ten normal draws"
    first, *_, last = again.best_so_far
    assert (first.results, last.results) == (1, 10)
    assert first.likely is not None
    assert first.likely.value == pytest.approx(0.9, abs=0.1 * again.noise.sd), "no choice, no luck of choosing"
    assert first.likely.high - first.likely.low == pytest.approx(2 * 1.96 * again.noise.sd, rel=0.1)
    assert last.likely is not None
    assert last.likely.value == pytest.approx(0.9 - again.noise.optimism)
    assert last.likely.low < last.likely.value < last.likely.high < 0.92, "luck makes the best of many look better"
    assert again.cost["training_hours"] == pytest.approx(10 * 0.01 + 4 * 0.5)
    one = told(database, stored(database, [0.9], seeds={0: [0.9]}))
    assert one.noise is None
    assert one.best_so_far[0].likely is None
    assert any("more than one seed" in note for note in one.notes)


def test_the_decision_that_matters_is_named_first(database: Database) -> None:
    rng = random.Random(1)
    values = [rng.choice([0.6, 0.8]) + 0.01 * rng.random() for _ in range(40)]
    found = told(database, stored(database, values))
    assert next(iter(found.importance)) == "matters"
    assert found.importance["matters"] > 0.7
    assert told(database, stored(database, [0.5] * 3)).importance == {}


def test_the_reading_of_the_test_split_is_proved(database: Database) -> None:
    search_id = stored(database, [0.9])

    def note(*kinds: str) -> Callable[[Session], None]:
        return lambda session: [append_event(session, search_id, kind) for kind in kinds] and None

    assert told(database, search_id).test.readings == 0
    database.write(note("trial_completed", "finalist_completed", "test_evaluated", "search_succeeded"))
    found = told(database, search_id).test
    assert (found.readings, found.after_all_training) == (1, True)
    database.write(note("trial_started", "test_evaluated"))
    found = told(database, search_id).test
    assert (found.readings, found.after_all_training) == (2, False)
    assert "read 2 times, BEFORE training ended" in markdown(told(database, search_id), "x")


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server with three searches that ran in this process: two alike, one of another seed."""
    from tests.nas_service.conftest import settings_for

    torch.set_num_threads(1)
    server = LocalServer(settings_for(tmp_path_factory.mktemp("searched")))
    ids = []
    for seed in (1, 1, 2):
        answer = server.http().post("/v1/searches", json={**SMALL, "seed": seed})
        assert answer.status_code == 201, answer.text
        ids.append(answer.json()["id"])
        Driver(server.settings, ids[-1]).run()
    yield server, ids
    server.close()


def test_a_search_gets_its_report(searched: tuple[LocalServer, list[str]]) -> None:
    server, ids = searched
    http = server.http()
    found = Report.model_validate(http.get(f"/v1/searches/{ids[0]}/report").json())
    assert found.test.readings == 1
    assert found.test.after_all_training is True
    assert [f.seeds for f in found.finalists] == [2, 2, 2]
    assert found.noise is not None
    assert found.cost["trials"] == 10
    assert sum(share for state, share in found.shares.items() if state != "reused") == pytest.approx(1)
    text = http.get(f"/v1/searches/{ids[0]}/report.md")
    assert text.headers["content-type"].startswith("text/markdown")
    assert "The test split was read once, after all training" in text.text
    page = http.get(f"/searches/{ids[0]}/report")
    assert page.status_code == 200
    assert "The test split was read once" in page.text


def test_best_under_a_bound(searched: tuple[LocalServer, list[str]]) -> None:
    server, ids = searched
    http = server.http()
    trials = [t for t in http.get(f"/v1/searches/{ids[0]}/trials").json()["items"] if t["state"] == "completed"]
    costs = sorted(t["metrics"]["params"] for t in trials)
    limit = costs[len(costs) // 2]
    found = http.get(f"/v1/searches/{ids[0]}/pareto?max_params={limit}").json()
    best = max(t["values"][0] for t in trials if t["metrics"]["params"] <= limit)
    assert [t["values"][0] for t in found] == [best]
    assert all(t["metrics"]["params"] <= limit for t in found)
    assert http.get(f"/v1/searches/{ids[0]}/pareto?max_params=1").json() == []

    def measured(session: Session) -> None:
        for number, latency in ((trials[0]["number"], 7.5), (trials[1]["number"], 8.5)):
            trial = session.get_one(Trial, (ids[0], number))
            trial.metrics = {**trial.metrics, "latency_ms": latency}

    server.state.database.write(measured)
    found = http.get(f"/v1/searches/{ids[0]}/pareto?max_latency_ms=8").json()
    assert [t["number"] for t in found] == [trials[0]["number"]], "what was not measured does not count as fast"
    for query, message in (("max_luck=1", "bound 'max_luck'; allowed: max_params"), ("max_params=nan", "finite")):
        refused = http.get(f"/v1/searches/{ids[0]}/pareto?{query}")
        assert refused.status_code == 422
        assert message in refused.json()["detail"]


def test_replay(
    searched: tuple[LocalServer, list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server, (one, same, other) = searched

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["nas", "--url", server.url, "--token", server.token, *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out or said.err

    code, text = run("replay", one, "--against", same)
    assert (code, text) == (0, f"search {same} is the same as {one}: proposals, results and winner\n")
    code, text = run("replay", one, "--against", other)
    assert code == 1
    assert text.startswith("first divergence at trial 0, ")
    with Client(server.url, server.token) as client:
        trials = list(client.trials(one))
    changed = [dict(trial) for trial in trials]
    changed[4]["values"] = [0.123]
    found = divergence(trials, changed, None, None)
    assert found == {"trial": 4, "part": "values", "original": trials[4]["values"], "replay": [0.123]}
    assert divergence(trials, trials[:-1], None, None)["trial"] == len(trials) - 1  # type: ignore[index]
    unfinished = server.http().post("/v1/searches", json={**SMALL, "seed": 3}).json()["id"]
    code, text = run("replay", unfinished)
    assert code == 2
    assert f"search {unfinished} is queued; allowed: one that succeeded or failed" in text
    winners = {"trial": 1, "seed": 0}, {"trial": 2, "seed": 0}
    assert divergence(trials, trials, *winners)["part"] == "winner"  # type: ignore[index]

"""Who is best: dominance, fronts, ties, feasibility; progress; rungs after a restart; the winner."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from nas_service.database.schema import migrate
from nas_service.database.session import Database
from nas_service.database.tables import Finalist, Search, Trial
from nas_service.search import status
from nas_service.search.finalists import choose_winner
from nas_service.search.ranking import best_first, dominates, pareto_front
from nas_service.search.request import SchedulerSpec, SearchRequest
from nas_service.search.schedulers import Scheduler, scheduler_of
from nas_service.strategies.merit import turned
from nas_service.strategies.protocol import Objective
from tests.conftest import drill
from tests.nas_service.search.benches import Bench, folder_settings

TWO = (Objective("val_accuracy", "maximize"), Objective("params", "minimize"))
points = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=12)


@given(points)
def test_the_front_is_what_nobody_beats(found: list[tuple[int, int]]) -> None:
    front = pareto_front(found)
    kept = [found[i] for i in front]
    assert len(set(kept)) == len(kept), "of equal points one stays"
    assert not any(dominates(a, b) for a in kept for b in kept)
    for i, point in enumerate(found):
        if i not in front:
            assert any(dominates(k, point) or k == point for k in kept)


def test_losses_turn_what_is_maximized() -> None:
    assert turned((0.9, 100.0), TWO) == (-0.9, 100.0)
    assert not dominates((1, 1), (1, 1))
    assert dominates((1, 1), (1, 2))


def stored(database: Database, rows: list[dict[str, Any]], **changes: Any) -> str:
    """A search with completed trials, each given by what differs."""
    request = SearchRequest.model_validate(drill(len(rows) + 1, **changes))

    def work(session: Session) -> str:
        search = status.create(session, request, "a test")
        for number, given_row in enumerate(rows):
            usual: dict[str, Any] = {
                "state": "completed", "fingerprint": f"{number:064d}", "questions": [], "metrics": {},
                "created_at": 1.0, "counted": True, "values": [0.5],
            }  # fmt: skip
            session.add(Trial(search_id=search.id, number=number, **{**usual, **given_row}))
        return search.id

    return database.write(work)


def test_best_first(database: Database) -> None:
    search_id = stored(
        database,
        [
            {"values": [0.7, 300.0]},
            {"values": [0.9, 900.0]},
            {"values": [0.6, 400.0]},  # beaten by 0
            {"values": [0.99, 10.0], "violations": [0.5]},  # keeps no constraint
            {"values": [0.99, 10.0], "state": "pruned"},
            {"values": [0.9, 900.0], "fingerprint": f"{1:064d}"},  # the same network as 1
            {"values": None, "state": "failed"},
            {"values": [0.8, 500.0], "violations": [-0.5]},
        ],
    )
    with database.read() as session:
        assert [t.number for t in best_first(session, search_id, TWO)] == [1, 7, 0, 2]
        one = (Objective("val_accuracy", "maximize"),)
        first = stored(database, [{"values": [0.5]}, {"values": [0.7]}, {"values": [0.7]}])
    with database.read() as session:
        assert [t.number for t in best_first(session, first, one)] == [1, 2, 0], "ties: the earlier one"
        assert [t.number for t in status.front(session, session.get_one(Search, first))] == [1]


def test_bounds_narrow_the_front(sqlite: Database) -> None:
    rows = [{"values": [0.9], "metrics": {"val_loss": 0.0}}, {"values": [0.8], "metrics": {"val_loss": 0.5}}]
    search_id = stored(sqlite, [*rows, {"values": [0.95], "metrics": {"val_loss": None}}, {"values": [0.99]}])

    def under(low: float, high: float) -> list[int]:
        with sqlite.read() as session:
            search = session.get_one(Search, search_id)
            return [t.number for t in status.front(session, search, [("val_loss", low, high)])]

    assert under(-math.inf, 0.5) == [0], "0 is a figure; what is not known keeps no bound"
    assert under(0.1, math.inf) == [1]


def test_progress(database: Database) -> None:
    rows = [
        {},
        {"state": "pruned"},
        {"state": "failed"},
        {"state": "infeasible", "counted": False},
        {"state": "running"},
    ]
    search_id = stored(database, rows)

    def change(session: Session) -> None:
        search = session.get_one(Search, search_id)
        search.state, search.used_seconds = "running", 30.0

    database.write(change)
    with database.read() as session:
        found = status.progress(session, session.get_one(Search, search_id))
    assert (found.counted, found.max_trials) == (3, 6)
    assert found.states == {"completed": 1, "pruned": 1, "failed": 1, "infeasible": 1, "running": 1}
    assert found.fraction == pytest.approx(0.5)
    assert found.eta_seconds == pytest.approx(30.0)


def test_nobody_knows_the_time_left_before_anything_is_done(database: Database) -> None:
    search_id = stored(database, [])
    with database.read() as session:
        found = status.progress(session, session.get_one(Search, search_id))
    assert (found.fraction, found.eta_seconds) == (0.0, None)


def test_ids_sort_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = SimpleNamespace(time=lambda: 1e9)
    monkeypatch.setattr(status, "time", now)
    early = status.new_id()
    now.time = lambda: 1e9 + 0.1
    assert early < status.new_id()


def decisions(scheduler: Scheduler, accuracies: list[float], first: int = 0) -> list[bool]:
    """Which new trials a scheduler stops after their first epoch."""
    return [scheduler.stops(str(n), {"epoch": 1, "val_accuracy": a}) for n, a in enumerate(accuracies, first)]


def test_rungs_survive_a_restart() -> None:
    spec = SchedulerSpec(name="asha", min_epochs=1, max_epochs=4, reduction_factor=2)
    objectives = (Objective("val_accuracy", "maximize"),)
    early, late = [0.9, 0.8, 0.95, 0.7], [0.6, 0.97, 0.85]
    whole = decisions(scheduler_of(spec, objectives, []), early + late)
    history = [(n, {"epoch": 1, "val_accuracy": a}) for n, a in enumerate(early)]
    assert decisions(scheduler_of(spec, objectives, history), late, len(early)) == whole[len(early) :]
    assert set(whole) == {False, True}
    assert decisions(scheduler_of(spec, objectives, []), late) != whole[len(early) :], "without its history it differs"


@pytest.mark.parametrize("good_until", range(18))
def test_asha_decides_at_its_rungs_alone(good_until: int) -> None:
    spec = SchedulerSpec(name="asha", min_epochs=2, max_epochs=20, reduction_factor=3)
    scheduler = scheduler_of(spec, (Objective("val_accuracy", "maximize"),), [])
    assert [epoch for epoch in range(1, 21) if scheduler.decides(epoch)] == [2, 6, 18]
    assert not any(scheduler.stops("strong", {"epoch": epoch, "val_accuracy": 0.9}) for epoch in range(1, 20))
    fading = [{"epoch": e, "val_accuracy": 0.95 if e <= good_until else 0.1} for e in range(1, 20)]
    stopped = next(report["epoch"] for report in fading if scheduler.stops("fading", report))
    assert stopped == next(rung for rung in (2, 6, 18) if rung > good_until)


def test_the_winner_has_the_best_mean_of_its_seeds(tmp_path: Path, database: Database) -> None:
    bench = Bench(database, folder_settings(tmp_path / "data"), widths=(4, 8, 12))
    assert choose_winner(bench.plan, database, bench.id) is None, "nothing has completed yet"
    trials = bench.run()
    best = max(trials, key=lambda t: (t.values or [0.0])[0])
    alone = choose_winner(bench.plan, database, bench.id)
    assert alone is not None
    assert (alone.trial, alone.seed) == (best.number, None)

    def finals(session: Session) -> None:
        for number, seed, state, accuracy in (
            (0, 0, "completed", 0.70), (0, 1, "completed", 0.80), (1, 0, "completed", 0.99),
            (1, 1, "completed", 0.40), (2, 0, "failed", 1.0),
        ):  # fmt: skip
            metrics = {"val_accuracy": accuracy}
            session.add(
                Finalist(
                    search_id=bench.id, number=number, seed=seed, state=state, metrics=metrics, curve=[], weights={}
                )
            )

    database.write(finals)
    winner = choose_winner(bench.plan, database, bench.id)
    assert winner is not None
    assert (winner.trial, winner.seed, winner.seeds) == (0, 1, {"0": 0.7, "1": 0.8})
    assert winner.to_json()["val_accuracy"]["mean"] == pytest.approx(0.75)


def test_a_full_training_without_the_figure_does_not_win(tmp_path: Path, database: Database) -> None:
    wanted = [{"metric": "val_loss"}]
    bench = Bench(database, folder_settings(tmp_path / "data"), widths=(4, 8), objectives=wanted)
    bench.run()
    for number in (0, 1):
        bench.change(number, metrics={})

    def finals(session: Session) -> None:
        for number, metrics in ((0, {"val_accuracy": 0.9}), (1, {"val_accuracy": 0.5, "val_loss": 0.7})):
            row = Finalist(search_id=bench.id, number=number, seed=0, state="completed", metrics=metrics, curve=[])
            session.add(row)

    database.write(finals)
    winner = choose_winner(bench.plan, database, bench.id)
    assert winner is not None
    assert winner.trial == 1


def test_a_driver_runs_a_search_from_the_queue_to_its_end(tmp_path: Path) -> None:
    settings = folder_settings(tmp_path / "data")
    database = Database(settings.url)
    migrate(database)
    request = SearchRequest.model_validate(
        drill(4, evaluator={"name": "drill", "settings": {"seconds_per_epoch": 0, "endings": {"0": "raise"}}})
    )
    search_id = database.write(lambda session: status.create(session, request, "a test").id)
    command = [sys.executable, "-m", "nas_service.search.driver", search_id]
    environment = {**os.environ, **settings.environment()}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    with database.read() as session:
        search = session.get_one(Search, search_id)
        best = status.best_trial(session, search)
    database.close()
    assert (search.state, search.lease_until, search.owner) == ("succeeded", None, None)
    assert best is not None
    assert search.winner is not None
    assert search.winner["trial"] == best.number

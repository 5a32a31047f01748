"""Leases, fencing, absorbing states: one driver writes, the others are told to stop."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from nas_service.database.session import Database
from nas_service.database.tables import Event, Finalist, Measurement, Search, StrategyUpdate, Trial
from nas_service.errors import LeaseLost
from nas_service.search.epochs import Epochs, Reported
from nas_service.search.events import append_event, finish
from nas_service.search.ledger import STARTING, Ending, Ledger
from nas_service.search.request import SearchRequest
from nas_service.search.status import create
from tests.conftest import drill, poll
from workers.assignment import Failure

REQUEST = SearchRequest.model_validate(drill(3))


@pytest.fixture
def search_id(database: Database) -> str:
    return database.write(lambda session: create(session, REQUEST, "a test").id)


def row(database: Database, search_id: str) -> Search:
    with database.read() as session:
        return session.get_one(Search, search_id)


def trial(database: Database, search_id: str, number: int = 0) -> Trial:
    with database.read() as session:
        return session.get_one(Trial, (search_id, number))


def expire(database: Database, search_id: str) -> None:
    """The lease has run out long ago."""
    change = sa.update(Search).where(Search.id == search_id).values(lease_until=1.0)
    database.write(lambda session: session.execute(change))


def claimed(database: Database, search_id: str, name: str = "one") -> Ledger:
    ledger = Ledger(database, search_id, name, 30)
    ledger.claim()
    return ledger


def test_one_driver_holds_a_search(database: Database, search_id: str) -> None:
    one = Ledger(database, search_id, "one", 30)
    assert one.claim() == "running"
    with pytest.raises(LeaseLost, match="has a driver already"):
        Ledger(database, search_id, "two", 30).claim()
    assert row(database, search_id).owner == "one"


def test_of_many_that_claim_at_once_one_gets_it(database: Database, search_id: str) -> None:
    def claim(number: int) -> bool:
        try:
            Ledger(database, search_id, str(number), 30).claim()
        except LeaseLost:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(claim, range(8))) == [False] * 7 + [True]


def test_a_lease_that_is_not_renewed_runs_out(database: Database, search_id: str) -> None:
    Ledger(database, search_id, "one", 0.2).claim()

    def taken() -> bool:
        try:
            return Ledger(database, search_id, "two", 30).claim() == "running"
        except LeaseLost:
            return False

    assert poll(taken, 10, "the lease runs out")


def test_a_reserved_search_is_for_its_driver(database: Database, search_id: str) -> None:
    change = sa.update(Search).where(Search.id == search_id).values(owner=f"{STARTING}job", lease_until=4e9)
    database.write(lambda session: session.execute(change))
    assert claimed(database, search_id).epoch == 1


WRITES: dict[str, Callable[[Ledger], Any]] = {
    "beat": lambda ledger: ledger.beat(),
    "recover": lambda ledger: ledger.recover(2),
    "start_trial": lambda ledger: ledger.start_trial(0),
    "requeue_trial": lambda ledger: ledger.requeue_trial(0, "x"),
    "end_trial": lambda ledger: [ledger.end_trial(0, Ending("completed"), None, None), ledger.flush()],
    "forget_weights": lambda ledger: (ledger.forget_weights(0), ledger.flush()),
    "measure": lambda ledger: (ledger.measure(0, 1, 1, {}), ledger.flush()),
    "add_trial": lambda ledger: (ledger.add_trial(9, []), ledger.flush()),
    "add_finalists": lambda ledger: ledger.add_finalists([(0, 0)]),
    "record_test": lambda ledger: ledger.record_test(0, 0, {}),
    "set_reason": lambda ledger: ledger.set_reason("x"),
    "set_stage": lambda ledger: ledger.set_stage("test"),
    "end_search": lambda ledger: ledger.end_search("failed", "x"),
}


@pytest.mark.parametrize("name", WRITES)
def test_a_driver_that_was_taken_over_writes_nothing(database: Database, search_id: str, name: str) -> None:
    old = claimed(database, search_id)
    old.add_trial(0, [])
    old.flush()
    expire(database, search_id)
    claimed(database, search_id, "two")
    before = [row(database, search_id).last_event, trial(database, search_id).state]
    with pytest.raises(LeaseLost):
        WRITES[name](old)
    assert [row(database, search_id).last_event, trial(database, search_id).state] == before
    assert row(database, search_id).owner == "two"


@pytest.mark.parametrize("state", ["cancelled", "succeeded", "failed", "paused"])
def test_a_search_at_rest_has_no_driver(database: Database, search_id: str, state: str) -> None:
    database.write(lambda session: finish(session, search_id, state, ""))
    with pytest.raises(LeaseLost, match="has ended"):
        claimed(database, search_id)


def test_an_end_is_final(database: Database, search_id: str) -> None:
    ledger = claimed(database, search_id)
    ledger.add_trial(0, [["width", [1, 2], 2]])
    assert ledger.start_trial(0) == 1
    ledger.measure(0, 1, 1, {"val_accuracy": 0.5, "seconds": 2.0})
    ledger.end_trial(0, Ending("completed", {"val_accuracy": 0.5}, [0.5]), {"loss": 1.0}, None)
    ledger.flush()
    before = trial(database, search_id).__dict__ | {"_sa_instance_state": None}
    failure = Failure(kind="oom", message="late", traceback="")
    ledger.end_trial(0, Ending("failed", failure=failure), {"loss": 2.0}, {"x": 1})
    ledger.requeue_trial(0, "late")
    assert trial(database, search_id).__dict__ | {"_sa_instance_state": None} == before
    with pytest.raises(LeaseLost, match="completed, not pending"):
        ledger.start_trial(0)
    with database.read() as session:
        assert len(session.scalars(sa.select(StrategyUpdate)).all()) == 1
    assert row(database, search_id).observed == 1
    ledger.end_search("succeeded", "done")
    ledger.end_search("failed", "late")
    assert (row(database, search_id).state, row(database, search_id).reason) == ("succeeded", "done")


def test_ending_a_search_cancels_what_runs_and_pausing_keeps_it(database: Database, search_id: str) -> None:
    ledger = claimed(database, search_id)
    for number in (0, 1):
        ledger.add_trial(number, [])
    ledger.start_trial(0)
    ledger.end_search("paused", "")
    assert [trial(database, search_id, n).state for n in (0, 1)] == ["pending", "pending"]
    database.write(lambda session: finish(session, search_id, "cancelled", ""))
    assert [trial(database, search_id, n).state for n in (0, 1)] == ["cancelled", "cancelled"]


def test_recovery_queues_again_until_the_attempts_are_used(database: Database, search_id: str) -> None:
    ledger = claimed(database, search_id)
    ledger.add_trial(0, [])
    ledger.add_finalists([(0, 7)])
    for attempt in (1, 2):
        assert ledger.start_trial(0) == attempt
        ledger.start_finalist(0, 7)
        worn = ledger.recover(2)
    assert worn == [0]
    assert trial(database, search_id).state == "running", "the driver ends it, with its strategy's update"
    with database.read() as session:
        finalist = session.get_one(Finalist, (search_id, 0, 7))
    assert (finalist.state, finalist.failure_kind) == ("failed", "infrastructure")
    assert finalist.failure_message


@pytest.mark.parametrize("state", ["paused", "succeeded"])
def test_a_late_heartbeat_gives_a_search_at_rest_no_lease(database: Database, search_id: str, state: str) -> None:
    ledger = claimed(database, search_id)
    ledger.end_search(state, "")
    with pytest.raises(LeaseLost, match="has ended, rests"):
        ledger.beat()
    ledger.end_search("failed", "ends once")
    assert row(database, search_id).state == state
    assert (row(database, search_id).owner, row(database, search_id).lease_until) == (None, None)


def test_epochs_are_recorded_once_and_repeated_ones_keep_the_first(database: Database, search_id: str) -> None:
    ledger = claimed(database, search_id)
    ledger.add_trial(0, [])
    ledger.start_trial(0)
    first = Epochs(search_id, [Reported(0, 1, 1, {"val_accuracy": 0.5, "seconds": 2.0}, False, 1000.0)])
    ledger.defer(first)
    ledger.flush()
    ledger.defer(first)  # the answer to the commit was lost: the transaction runs again
    ledger.measure(0, 1, 2, {"val_accuracy": 0.4, "seconds": 2.0}, replayed=True)
    ledger.measure(0, 2, 2, {"val_accuracy": 0.6, "seconds": 3.0}, replayed=True)
    ledger.flush()
    with database.read() as session:
        found = session.scalars(sa.select(Measurement).order_by(Measurement.epoch)).all()
    assert [(m.epoch, m.attempt, m.metrics["val_accuracy"]) for m in found] == [(1, 1, 0.5), (2, 2, 0.6)]
    assert (trial(database, search_id).epoch, trial(database, search_id).train_seconds) == (2, 5.0)
    events = sa.select(Event).where(Event.kind == "epoch").order_by(Event.number)
    with database.read() as session:
        assert [event.data["epoch"] for event in session.scalars(events)] == [1, 2]


def test_an_epoch_that_is_trained_again_replaces_the_first(database: Database, search_id: str) -> None:
    ledger = claimed(database, search_id)
    ledger.add_trial(0, [])
    ledger.start_trial(0)
    ledger.measure(0, 1, 1, {"val_accuracy": 0.5, "seconds": 2.0})
    ledger.flush()
    ledger.measure(0, 1, 1, {"val_accuracy": 0.6, "seconds": 3.0})  # after a pause, which gives the attempt back
    ledger.measure(0, 2, 1, {"val_accuracy": 0.7, "seconds": 3.0})
    ledger.flush()
    with database.read() as session:
        found = session.scalars(sa.select(Measurement).order_by(Measurement.epoch)).all()
    assert [m.metrics["val_accuracy"] for m in found] == [0.6, 0.7]
    assert trial(database, search_id).train_seconds == 8.0


def test_figures_that_are_not_finite_are_recorded_as_unknown(database: Database, search_id: str) -> None:
    ledger = claimed(database, search_id)
    ledger.add_trial(0, [])
    ledger.start_trial(0)
    ledger.measure(0, 1, 1, {"val_loss": float("nan"), "seconds": float("inf"), "val_accuracy": 0.1})
    ending = Ending("completed", {"val_loss": float("inf")}, [0.1])
    ledger.end_trial(0, ending, {"loss": float("nan"), "step": 1}, None)
    ledger.flush()
    assert trial(database, search_id).metrics == {"val_loss": None, "seconds": None, "val_accuracy": 0.1}
    with database.read() as session:
        assert session.scalars(sa.select(StrategyUpdate)).one().figures == {"loss": None, "step": 1}


def test_events_have_no_gaps_with_two_writers(database: Database, search_id: str) -> None:
    ledger = claimed(database, search_id)
    with ThreadPoolExecutor(2) as pool:
        ours = pool.submit(lambda: [ledger.set_reason(str(n)) for n in range(20)])
        for n in range(20):
            database.write(lambda session, n=n: append_event(session, search_id, "other", {"n": n}))
        ours.result()
    with database.read() as session:
        numbers = session.scalars(sa.select(Event.number).order_by(Event.number)).all()
    assert list(numbers) == list(range(1, len(numbers) + 1))
    assert len(numbers) == 2 + 40


def test_the_time_worked_is_counted(database: Database, search_id: str) -> None:
    ledger = claimed(database, search_id)
    state, first = ledger.beat()
    _, second = ledger.beat()
    assert state == "running"
    assert 0 <= first < second


def test_what_was_deferred_is_written_with_the_next_transaction(database: Database, search_id: str) -> None:
    ledger = claimed(database, search_id)
    ledger.add_trial(0, [])

    def count(session: Session) -> int:
        return int(session.scalar(sa.select(sa.func.count()).select_from(Trial)) or 0)

    assert ledger.write(count) == 1
    ledger.flush()
    with database.read() as session:
        assert count(session) == 1

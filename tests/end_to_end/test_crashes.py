"""The driver and the server are killed in the middle of a search; nothing is lost, nothing is done twice."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from nas_service.client import Client
from nas_service.database.session import Database
from nas_service.database.tables import Event, Measurement, StrategyUpdate, Trial
from nas_service.strategies.rl_presets import PRESETS
from tests.end_to_end.conftest import Service, _end, drill, poll

TRIALS = 20


def counted(client: Client, search_id: str) -> int:
    return int(client.search(search_id)["progress"]["counted"])


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_killed_driver_and_killed_server_lose_nothing(
    backend: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue("empty_postgresql") if backend == "postgresql" else ""
    service = Service(tmp_path / "data", **({"NAS_DATABASE_URL": url} if url else {}))
    try:
        client = service.start()
        search_id = client.submit(drill(TRIALS))["id"]

        poll(lambda: counted(client, search_id) >= 4, 120, "4 results")
        before = {t["number"]: t for t in client.trials(search_id) if t["ended_at"]}
        drivers = service.drivers(search_id)
        assert drivers, "the search has a driver"
        for pid in drivers:
            os.kill(pid, signal.SIGKILL)
        at_kill = counted(client, search_id)
        poll(lambda: counted(client, search_id) > at_kill, 90, "a result after the driver was killed")

        poll(lambda: counted(client, search_id) >= 11, 120, "11 results")
        service.kill()
        client = service.start()
        ended = client.wait(search_id, 240)

        assert ended["state"] == "succeeded", ended["reason"]
        assert ended["progress"]["counted"] == TRIALS
        trials = {t["number"]: t for t in client.trials(search_id)}
        for number, old in before.items():
            assert trials[number] == old, "a finished trial has changed"
        _audit(Database(url or f"sqlite:///{service.data / 'nas.db'}"), search_id)
    finally:
        _end(service)


def _audit(database: Database, search_id: str) -> None:
    """One end a trial, one strategy update a result, one measurement an epoch, events without gaps."""
    with Session(database.engine) as session:
        trials = list(session.scalars(sa.select(Trial).where(Trial.search_id == search_id)))
        updates = list(session.scalars(sa.select(StrategyUpdate).where(StrategyUpdate.search_id == search_id)))
        events = list(session.scalars(sa.select(Event).where(Event.search_id == search_id).order_by(Event.number)))
        epochs = list(session.scalars(sa.select(Measurement).where(Measurement.search_id == search_id)))
    database.close()
    observed = sorted(t.observed_as for t in trials if t.observed_as)
    assert observed == list(range(1, len(trials) + 1))
    assert sorted(u.observed_as for u in updates) == observed
    assert sorted(u.figures["step"] for u in updates) == [PRESETS["service"].steps * count for count in observed]
    ends = [
        e.data["trial"]
        for e in events
        if e.kind in {f"trial_{s}" for s in ("completed", "pruned", "failed", "infeasible")}
    ]
    assert sorted(ends) == sorted(t.number for t in trials)
    assert [e.number for e in events] == list(range(1, len(events) + 1))
    by_trial = {t.number: sorted(m.epoch for m in epochs if m.number == t.number) for t in trials if not t.reused_from}
    for trial in trials:
        if not trial.reused_from:
            assert by_trial[trial.number] == list(range(1, (trial.epoch or 0) + 1))

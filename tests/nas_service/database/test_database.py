"""Schema and transactions, on SQLite and on PostgreSQL."""

from __future__ import annotations

import math
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.orm import Session

from nas_service.database import session as session_module
from nas_service.database.schema import configuration, migrate
from nas_service.database.session import Database
from nas_service.database.tables import DatasetRow, Search, StrategySnapshot, Table
from nas_service.errors import Misconfigured, Unavailable
from nas_service.search.request import SearchRequest
from nas_service.search.status import create
from tests.conftest import drill

REQUEST = SearchRequest.model_validate(drill(3))


def row(name: str = "a", size: float = 1.0) -> DatasetRow:
    return DatasetRow(name=name, source={}, info={"size": size}, created_at=1.0)


def count(database: Database) -> int:
    with database.read() as session:
        return int(session.scalar(sa.select(sa.func.count()).select_from(DatasetRow)) or 0)


def test_migrations_make_what_the_models_say(database_url: str) -> None:
    database = Database(database_url)
    before, after = migrate(database)
    assert before is None
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Table.metadata) == []
    assert migrate(database) == (after, after), "a second time there is nothing to do"
    database.check()
    database.close()


def test_searches_of_the_first_schema_stay(database_url: str) -> None:
    database = Database(database_url)
    config = configuration()
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    row = {
        "id": "old", "name": "old", "request": {"dataset": {"name": "digits"}}, "state": "paused", "reason": "",
        "stage": "search", "created_at": 1.0, "used_seconds": 0.0, "epoch": 0, "restarts": 0, "last_event": 0,
        "observed": 0,
    }  # fmt: skip
    old = sa.Table("searches", sa.MetaData(), autoload_with=database.engine)
    with database.engine.begin() as connection:
        connection.execute(old.insert(), row)
    assert migrate(database)[0] == "0001"
    with database.read() as session:
        search = session.get_one(Search, "old")
    assert (search.state, search.data) == ("paused", None)
    database.close()


def test_the_checks_of_the_models_are_in_the_database(database: Database) -> None:
    """Alembic does not compare CHECK constraints; so each is tried."""
    with database.read() as session:
        found = {
            str(check["name"])
            for table in Table.metadata.tables
            for check in sa.inspect(session.connection()).get_check_constraints(table)
        }
    wanted = {
        str(constraint.name)
        for table in Table.metadata.tables.values()
        for constraint in table.constraints
        if isinstance(constraint, sa.CheckConstraint)
    }
    assert wanted
    assert found == wanted
    search_id = database.write(lambda session: create(session, REQUEST, "x").id)
    with pytest.raises(sa.exc.IntegrityError):
        database.write(
            lambda session: session.execute(sa.update(Search).where(Search.id == search_id).values(state="odd"))
        )


def test_a_database_of_a_newer_version_is_refused(database: Database) -> None:
    with database.engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Misconfigured, match="'9999'"):
        migrate(database)


def test_two_processes_migrate_at_once(database_url: str) -> None:
    program = (
        "import sys; from nas_service.database.session import Database;"
        "from nas_service.database.schema import migrate;"
        "print(migrate(Database(sys.argv[1])))"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", program, database_url], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    ends = [(p.communicate(timeout=60), p.returncode) for p in processes]
    assert [code for _, code in ends] == [0, 0], [outputs[1].decode()[-500:] for outputs, _ in ends]
    assert sorted(outputs[0].decode().startswith("(None") for outputs, _ in ends) == [False, True], "one migrates"


def test_pragmas_are_asserted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database(f"sqlite:///{tmp_path / 'nas.db'}")
    database.check()
    for name, value in session_module.SQLITE_PRAGMAS.items():
        monkeypatch.setitem(session_module.SQLITE_PRAGMAS, name, "other")
        with pytest.raises(Misconfigured, match=f"{name} is '{value}'"):
            database.check()
        monkeypatch.setitem(session_module.SQLITE_PRAGMAS, name, value)
    database.close()


def test_a_postgresql_that_may_lose_results_is_refused(empty_postgresql: str) -> None:
    name = empty_postgresql.rsplit("/", 1)[1]
    database = Database(empty_postgresql)
    with database.engine.connect() as connection:
        connection.execute(sa.text(f"ALTER DATABASE {name} SET synchronous_commit = off"))
        connection.commit()
    database.close()
    with pytest.raises(Misconfigured, match="synchronous_commit is off"):
        database.check()
    database.close()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_figures_that_are_not_finite_are_refused(database: Database, value: float) -> None:
    with pytest.raises((sa.exc.StatementError, ValueError), match="not JSON compliant"):
        database.write(lambda session: session.add(row(size=value)))
    assert count(database) == 0


def test_a_read_writes_nothing(database: Database) -> None:
    for statement in ("DELETE FROM datasets", "CREATE TABLE more (x INTEGER)"):
        with pytest.raises((sa.exc.DBAPIError, Unavailable), match=r"read.?only"), database.read() as session:
            session.execute(sa.text(statement))
    database.write(lambda session: session.add(row()))
    assert count(database) == 1, "a connection that has read can write later"


def test_a_read_sees_one_moment(database: Database) -> None:
    with database.read() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(DatasetRow)) == 0
        database.write(lambda other: other.add(row()))
        assert session.scalar(sa.select(sa.func.count()).select_from(DatasetRow)) == 0
    assert count(database) == 1


def test_a_write_that_fails_leaves_nothing(database: Database) -> None:
    def work(session: Session) -> None:
        session.add(row())
        session.flush()
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        database.write(work)
    assert count(database) == 0


def test_a_write_waits_for_a_locked_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "BUSY_SECONDS", 0.05)
    database = Database(f"sqlite:///{tmp_path / 'nas.db'}")
    migrate(database)
    other = sqlite3.connect(tmp_path / "nas.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="locked"):
        database.write(lambda session: session.add(row("late")), patience_seconds=0.3)
    tries = 0

    def work(session: Session) -> None:
        nonlocal tries
        tries += 1
        session.add(row())

    threading.Timer(0.4, other.execute, ["COMMIT"]).start()
    database.write(work, patience_seconds=10)
    assert count(database) == 1
    assert tries > 1, "it was run again"
    other.close()
    database.close()


def test_a_write_survives_connections_that_are_killed(empty_postgresql: str) -> None:
    database, other = Database(empty_postgresql), Database(empty_postgresql)
    migrate(database)
    killed = False

    def work(session: Session) -> None:
        nonlocal killed
        session.merge(row())
        session.flush()
        if not killed:
            killed = True
            own = session.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
            with other.engine.connect() as connection:
                connection.execute(sa.text("SELECT pg_terminate_backend(:pid)"), {"pid": own})
        session.execute(sa.text("SELECT 1"))

    database.write(work)
    assert count(database) == 1
    database.close()
    other.close()


def test_a_full_pool_is_unavailable_not_a_bug(database: Database) -> None:
    database.engine.pool._timeout = 0.1  # type: ignore[attr-defined]  # the pool's own name for how long it waits
    limit = database.engine.pool.size() + database.engine.pool._max_overflow  # type: ignore[attr-defined]
    held = [database.engine.connect() for _ in range(limit)]
    try:
        with pytest.raises(Unavailable), database.read():
            pass
        with pytest.raises(Unavailable):
            database.write(lambda session: session.add(row()), patience_seconds=0.2)
    finally:
        for connection in held:
            connection.close()


def test_a_database_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'nas.db'}")
    migrate(database)
    with database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")
        connection.rollback()

    def much(session: Session) -> None:
        session.execute(sa.text("PRAGMA max_page_count = 1"))
        session.add(row("x" * 100, 1.0))
        session.add(DatasetRow(name="big", source={"x": "y" * 2_000_000}, info={}, created_at=1.0))

    with pytest.raises(Unavailable, match="full"):
        database.write(much, patience_seconds=0.1)
    database.close()


def test_deleting_a_search_deletes_what_belongs_to_it(database: Database) -> None:
    def make(session: Session) -> str:
        search = create(session, REQUEST, "x")
        session.add(StrategySnapshot(search_id=search.id, observed=1, snapshot={}))
        return search.id

    search_id = database.write(make)
    database.write(lambda session: session.delete(session.get_one(Search, search_id)))
    with database.read() as session:
        assert session.scalars(sa.select(StrategySnapshot)).all() == []


def test_the_clock_is_the_databases(database: Database) -> None:
    with database.read() as session:
        assert abs(database.now(session) - time.time()) < 5


def test_only_two_kinds_of_database_are_known() -> None:
    with pytest.raises(Misconfigured, match="'mysql'"):
        Database("mysql://nas@localhost/nas")

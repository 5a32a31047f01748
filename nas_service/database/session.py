"""Engine and transactions: one way to read, one way to write, the same on SQLite and PostgreSQL."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, OperationalError, TimeoutError
from sqlalchemy.orm import Session

from nas_service.errors import Misconfigured, Unavailable

T = TypeVar("T")

SQLITE_PRAGMAS = {"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1"}
"""Asserted at start: write-ahead log, FULL synchronisation, foreign keys."""
BUSY_SECONDS = 10.0


class Database:
    """A database by URL. `read` and `write` open sessions; `write` tries again when the database was locked or away."""

    def __init__(self, url: str) -> None:
        self.url = sa.make_url(url)
        if self.url.drivername in ("postgresql", "postgres"):
            self.url = self.url.set(drivername="postgresql+psycopg")
        if self.url.get_backend_name() not in ("sqlite", "postgresql"):
            raise Misconfigured(
                f"database_url has the backend {self.url.get_backend_name()!r}; allowed: sqlite, postgresql"
            )
        self.sqlite = self.url.get_backend_name() == "sqlite"
        self._read_options: dict[str, Any] = {"reads_only": True}
        if not self.sqlite:
            self._read_options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        self.engine = _sqlite_engine(self.url) if self.sqlite else _postgresql_engine(self.url)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that sees one snapshot and can change nothing. Raises Unavailable when the database is away."""
        try:
            with (
                self.engine.connect().execution_options(**self._read_options) as connection,
                Session(connection, expire_on_commit=False) as session,
            ):
                yield session
        except (OperationalError, TimeoutError) as error:
            raise _unavailable(error) from error

    def write(self, work: Callable[[Session], T], *, patience_seconds: float = 10.0) -> T:
        """Run ``work`` in one transaction and commit it.

        When the database is locked or its connection breaks, the transaction is run again until ``patience_seconds``
        are over; then Unavailable is raised. A commit whose answer was lost may be run twice: ``work`` must be safe to
        repeat (unique keys, compare-and-set).
        """
        deadline = time.monotonic() + patience_seconds
        while True:
            try:
                with Session(self.engine, expire_on_commit=False) as session, session.begin():
                    return work(session)
            except (DBAPIError, TimeoutError) as error:
                passing = _passing(error)
                if not passing and not isinstance(error, OperationalError):
                    raise
                if not passing or time.monotonic() > deadline:
                    raise _unavailable(error) from error
                time.sleep(random.uniform(0.02, 0.2))

    def now(self, session: Session) -> float:
        """Seconds since 1970 by the database's clock: the one clock that leases are measured by."""
        expression = (
            "(julianday('now') - 2440587.5) * 86400.0" if self.sqlite else "extract(epoch from clock_timestamp())"
        )
        return float(session.execute(sa.text(f"SELECT {expression}")).scalar_one())

    def check(self) -> None:
        """Raise Misconfigured unless the database keeps what it acknowledges; Unavailable when it is away."""
        with self.read() as session:
            if self.sqlite:
                for name, wanted in SQLITE_PRAGMAS.items():
                    found = str(session.execute(sa.text(f"PRAGMA {name}")).scalar_one()).lower()
                    if found != wanted:
                        raise Misconfigured(
                            f"SQLite's {name} is {found!r}; needed: {wanted!r}. Is the folder on a network file system?"
                        )
            else:
                for name in ("fsync", "synchronous_commit"):
                    if session.execute(sa.text(f"SHOW {name}")).scalar_one() == "off":
                        raise Misconfigured(
                            f"PostgreSQL's {name} is off: acknowledged results could be lost. Switch it on."
                        )

    def close(self) -> None:
        self.engine.dispose()


def _sqlite_engine(url: sa.URL) -> Engine:
    engine = sa.create_engine(
        url,
        json_serializer=_strict_json,
        connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
        pool_size=8,
        max_overflow=24,
        pool_timeout=10,
    )

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        cursor = connection.cursor()
        for name, value in (
            ("journal_mode", "WAL"),
            ("synchronous", "FULL"),
            ("foreign_keys", "ON"),
            ("busy_timeout", str(int(BUSY_SECONDS * 1000))),
        ):
            cursor.execute(f"PRAGMA {name}={value}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A write that began as a read cannot wait for the lock, it fails at once: take the write lock first.
        reads_only = connection.get_execution_options().get("reads_only", False)
        connection.exec_driver_sql(f"PRAGMA query_only={int(reads_only)}")
        connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")

    return engine


def _postgresql_engine(url: sa.URL) -> Engine:
    return sa.create_engine(
        url,
        json_serializer=_strict_json,
        pool_size=8,
        max_overflow=8,
        pool_timeout=10,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": 5,
            "options": "-c statement_timeout=15000 -c lock_timeout=10000 -c idle_in_transaction_session_timeout=60000",
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 10000,
        },
    )


def _strict_json(value: Any) -> str:
    """JSON without NaN and infinity: PostgreSQL refuses them, SQLite would keep what no reader can parse."""
    return json.dumps(value, allow_nan=False)


def _passing(error: DBAPIError | TimeoutError) -> bool:
    """Whether the same transaction may succeed a moment later: locked, deadlocked, serialisation, connection lost."""
    if isinstance(error, TimeoutError) or error.connection_invalidated:  # every connection is in use, or this is lost
        return True
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return str(state) in {"40001", "40P01", "55P03", "57P01", "57P02", "57P03", "53300"} or str(state).startswith(
            "08"
        )
    text = str(error.orig).lower()
    return isinstance(error, OperationalError) and any(
        word in text for word in ("locked", "busy", "connection", "timeout", "server closed")
    )


def _unavailable(error: DBAPIError | TimeoutError) -> Unavailable:
    cause = error if isinstance(error, TimeoutError) else error.orig
    reason = str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
    return Unavailable(f"the database does not answer: {reason}", retry_after=5)

"""Starts a driver for every search that needs one, and again when one dies: a thread of every server."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from nas_service.database.session import Database
from nas_service.database.tables import Search
from nas_service.errors import NasError, Unavailable
from nas_service.search.cluster import Cluster
from nas_service.search.ledger import append_event, finish
from nas_service.settings import Settings

log = logging.getLogger(__name__)

DRIVER = "-m nas_service.search.driver"
STARTING_SECONDS = 60.0
"""A driver that was started this long ago and has not claimed its search is given up."""


@dataclass(frozen=True)
class Orphan:
    """A search that should have a driver and has none."""

    id: str
    name: str
    state: str
    restarts: int
    epoch: int


class Supervisor:
    """Sweeps the table of searches every ``sweep_seconds``."""

    def __init__(self, database: Database, settings: Settings, cluster: Cluster | None) -> None:
        self._database, self._settings, self._cluster = database, settings, cluster
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Look now: a search was posted or resumed."""
        self._wake.set()

    def stop(self) -> None:
        """No more sweeps. Inline drivers are this server's children and end with it."""
        self._stop.set()
        self._wake.set()
        self._thread.join(10)
        for child in self._children.values():
            child.terminate()
            child.wait()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.sweep()
            except NasError as error:
                log.warning("supervisor: %s", error.detail)
            except Exception:
                log.exception("supervisor")
            self._wake.wait(self._settings.sweep_seconds)
            self._wake.clear()

    def sweep(self) -> None:
        """Start a driver for each search without one."""
        for key, child in list(self._children.items()):
            if child.poll() is not None:
                del self._children[key]
        for orphan in self._orphans():
            if self._stop.is_set():
                return
            if orphan.restarts > self._settings.max_driver_restarts:
                self._end(
                    orphan, "failed", f"its driver died {orphan.restarts} times without a new result; see its log"
                )
            elif orphan.state == "cancelling":
                self._end(orphan, "cancelled", "cancelled by request")
            elif orphan.state == "pausing":
                self._end(orphan, "paused", "paused by request")
            else:
                self._start(orphan)

    def _orphans(self) -> list[Orphan]:
        with self._database.read() as session:
            now = self._database.now(session)
            rows = session.scalars(
                sa.select(Search)
                .where(Search.state.in_(["queued", "running", "pausing", "cancelling"]))
                .where(sa.or_(Search.lease_until.is_(None), Search.lease_until < now))
                .order_by(Search.created_at)
            )
            return [Orphan(row.id, row.name, row.state, row.restarts, row.epoch) for row in rows]

    def _start(self, orphan: Orphan) -> None:
        """Start a driver, after reserving the search for it: no other server starts a second one meanwhile."""
        if not self._reserve(orphan):
            return
        try:
            if self._settings.executor == "inline":
                self._spawn(orphan)
            elif self._cluster is not None:
                number = orphan.epoch + orphan.restarts + 1
                python = sys.executable if self._cluster.own else "python"
                self._cluster.submit(
                    f"search-{orphan.id}-{number}",
                    f"{python} {DRIVER} {orphan.id}",
                    {"search": orphan.id, "name": orphan.name},
                )
        except Unavailable as error:
            self._release(orphan, f"waits for Ray: {error.detail}")

    def _spawn(self, orphan: Orphan) -> None:
        environment = {**os.environ, **self._settings.environment()}
        if self._settings.database_url:
            environment["NAS_DATABASE_URL"] = self._settings.database_url
        folder = self._settings.searches_dir / orphan.id
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "driver.log").open("ab") as output:
            command = [sys.executable, *DRIVER.split(), orphan.id]
            self._children[orphan.id] = subprocess.Popen(command, stdout=output, stderr=output, env=environment)

    def _reserve(self, orphan: Orphan) -> bool:
        def work(session: Session) -> bool:
            now = self._database.now(session)
            taken = session.execute(
                sa.update(Search)
                .where(Search.id == orphan.id, Search.epoch == orphan.epoch, Search.restarts == orphan.restarts)
                .where(sa.or_(Search.lease_until.is_(None), Search.lease_until < now))
                .values(lease_until=now + STARTING_SECONDS, owner="starting", restarts=Search.restarts + 1)
                .returning(Search.id)
            ).one_or_none()
            return taken is not None

        return self._database.write(work)

    def _release(self, orphan: Orphan, reason: str) -> None:
        """The driver could not be started: say why, and try again at the next sweep. It does not count as a restart."""

        def work(session: Session) -> None:
            search = session.get_one(Search, orphan.id)
            if search.owner == "starting":
                search.owner = search.lease_until = None
                search.restarts = orphan.restarts
                if search.reason != reason:
                    search.reason = reason
                    append_event(session, orphan.id, "reason", {"reason": reason})

        with contextlib.suppress(NasError):
            self._database.write(work)

    def _end(self, orphan: Orphan, state: str, reason: str) -> None:
        self._database.write(lambda session: finish(session, orphan.id, state, reason))

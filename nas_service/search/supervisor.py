"""Starts a driver for every search that needs one, and again when one dies: a thread of every server."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shlex
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from functools import partial

import sqlalchemy as sa
from sqlalchemy.orm import Session

from nas_service.database.session import Database
from nas_service.database.tables import Search
from nas_service.errors import NasError, Unavailable
from nas_service.search.cluster import Cluster
from nas_service.search.events import append_event, finish
from nas_service.search.ledger import STARTING
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
    nonce: str = field(default_factory=lambda: secrets.token_hex(3))

    @property
    def job(self) -> str:
        """Name of the driver to start: every attempt has its own, since Ray refuses a name that it knows."""
        return f"search-{self.id}-{self.nonce}"


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
        if self._cluster is not None:
            self._cluster.ensure()
        self._notice_deaths()
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

    def _notice_deaths(self) -> None:
        """End the lease of drivers whose process is known to be gone, so that nobody waits for it to run out.

        Safe even if the process were alive: the next driver's epoch fences its writes off.
        """
        gone = {key: "" for key, child in self._children.items() if child.poll() is not None}
        for key in gone:
            self._children.pop(key)
        if self._cluster is not None:
            with contextlib.suppress(Unavailable):  # Ray is away: leases run out by themselves
                for job in self._cluster.jobs():
                    if job.get("status") in ("FAILED", "STOPPED", "SUCCEEDED") and job.get("submission_id"):
                        gone[job["submission_id"]] = str(job.get("message") or job["status"])
        with self._database.read() as session:
            held = session.execute(
                sa.select(Search.id, Search.owner).where(Search.owner.is_not(None), Search.lease_until.is_not(None))
            ).all()
        for search_id, owner in held:
            if owner is None:
                continue
            name = owner.removeprefix(STARTING).split("@")[0]
            if name in gone:
                reason = f"its driver ended before it had begun: {gone[name]}" if owner.startswith(STARTING) else ""
                self._database.write(partial(_expire, search_id=search_id, owner=owner, reason=reason))

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
                python = shlex.quote(sys.executable) if self._cluster.own else "python"
                entrypoint = f"{python} {DRIVER} {orphan.id} {orphan.job}"
                self._cluster.submit(orphan.job, entrypoint, {"search": orphan.id, "name": orphan.name})
        except Unavailable as error:
            self._release(orphan, f"waits for Ray: {error.detail}")

    def _spawn(self, orphan: Orphan) -> None:
        environment = {**os.environ, **self._settings.environment()}
        if self._settings.database_url:
            environment["NAS_DATABASE_URL"] = self._settings.database_url
        folder = self._settings.searches_dir / orphan.id
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "driver.log").open("ab") as output:
            command = [sys.executable, *DRIVER.split(), orphan.id, orphan.job]
            self._children[orphan.job] = subprocess.Popen(command, stdout=output, stderr=output, env=environment)

    def _reserve(self, orphan: Orphan) -> bool:
        def work(session: Session) -> bool:
            now = self._database.now(session)
            taken = session.execute(
                sa.update(Search)
                .where(Search.id == orphan.id, Search.epoch == orphan.epoch, Search.restarts == orphan.restarts)
                .where(sa.or_(Search.lease_until.is_(None), Search.lease_until < now))
                .values(
                    lease_until=now + STARTING_SECONDS, owner=f"{STARTING}{orphan.job}", restarts=Search.restarts + 1
                )
                .returning(Search.id)
            ).one_or_none()
            return taken is not None

        return self._database.write(work)

    def _release(self, orphan: Orphan, reason: str) -> None:
        """The driver could not be started: say why, and try again at the next sweep. It does not count as a restart."""

        def work(session: Session) -> None:
            search = session.get_one(Search, orphan.id)
            if search.owner == f"{STARTING}{orphan.job}":
                search.owner = search.lease_until = None
                search.restarts = orphan.restarts
                if search.reason != reason:
                    search.reason = reason
                    append_event(session, orphan.id, "reason", {"reason": reason})

        with contextlib.suppress(NasError):
            self._database.write(work)

    def _end(self, orphan: Orphan, state: str, reason: str) -> None:
        self._database.write(lambda session: finish(session, orphan.id, state, reason))


def _expire(session: Session, search_id: str, owner: str, reason: str) -> None:
    """The lease of ``owner`` ends now, unless another has it by now."""
    search = session.get(Search, search_id, with_for_update=True)
    if search is not None and search.owner == owner:
        search.owner = search.lease_until = None
        if reason and search.reason != reason:
            search.reason = reason
            append_event(session, search_id, "reason", {"reason": reason})

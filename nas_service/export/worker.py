"""Makes packages in the background: one child process each, so that a converter that crashes takes nothing with it."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from nas_service.database.session import Database
from nas_service.database.tables import Export
from nas_service.errors import Conflict, NasError
from nas_service.search import status
from nas_service.search.events import append_event
from nas_service.settings import Settings

log = logging.getLogger(__name__)

LIMIT_SECONDS = 900.0


def request_export(session: Session, search_id: str, number: int | None) -> tuple[Export, bool]:
    """A queued export of the winner, or of one trial, and whether it is new; one that is there is given back.

    Raises NotFound, or Conflict when there are no weights.
    """
    search = status.find_search(session, search_id)
    winner = search.winner
    seed = None
    if number is None or (winner and winner["trial"] == number):
        if not winner:
            raise Conflict(f"search {search_id} is {search.state} and has no winner yet; name a trial with weights")
        number, seed = winner["trial"], winner["seed"]
    elif not status.find_trial(session, search_id, number).weights:
        kept = [str(t.number) for t in status.best_trials(session, search) if t.weights]
        raise Conflict(f"the weights of trial {number} were not kept; exportable: {', '.join(kept) or 'none'}")
    query = sa.select(Export).where(Export.search_id == search_id, Export.number == number, Export.state != "failed")
    query = query.where(Export.seed == seed if seed is not None else Export.seed.is_(None))
    export = session.scalars(query).first()
    if export is not None:
        return export, False
    export = Export(
        id=status.new_id(),
        search_id=search_id,
        number=number,
        seed=seed,
        state="queued",
        reason="",
        created_at=time.time(),
    )
    session.add(export)
    session.flush()
    append_event(session, search_id, "export_queued", {"export": export.id, "trial": number})
    return export, True


class Exporter:
    """Takes queued exports one after the other. Any number of servers may run one; a lease keeps them apart."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database, self._settings = database, settings
        self._stop, self._wake = threading.Event(), threading.Event()
        self._owner = f"{socket.gethostname()}:{os.getpid()}"
        self._child: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._run, name="exporter", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """An export was queued."""
        self._wake.set()

    def stop(self) -> None:
        """End the thread; an export that is being made is made again by the next server."""
        self._stop.set()
        self._wake.set()
        if self._child is not None:
            self._child.terminate()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                while not self._stop.is_set() and (export_id := self._claim()):
                    self._make(export_id)
            except NasError as error:
                log.warning("exporter: %s", error.detail)
            except Exception:
                log.exception("exporter")
            self._wake.wait(self._settings.sweep_seconds)
            self._wake.clear()

    def _claim(self) -> str | None:
        def work(session: Session) -> str | None:
            now = self._database.now(session)
            free = sa.or_(Export.state == "queued", sa.and_(Export.state == "running", Export.lease_until < now))
            export = session.scalars(
                sa.select(Export).where(free).order_by(Export.id).limit(1).with_for_update(skip_locked=True)
            ).first()
            if export is None:
                return None
            export.state, export.owner, export.lease_until = "running", self._owner, now + LIMIT_SECONDS + 60
            append_event(session, export.search_id, "export_running", {"export": export.id})
            return export.id

        return self._database.write(work)

    def _make(self, export_id: str) -> None:
        environment = {**os.environ, **self._settings.environment(), "OMP_NUM_THREADS": "1"}
        if self._settings.database_url:
            environment["NAS_DATABASE_URL"] = self._settings.database_url
        command = [sys.executable, "-m", "nas_service.export.job", export_id]
        self._child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        try:
            out, err = self._child.communicate(timeout=LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            out, err = self._child.communicate()
            err += f"\nstopped after {LIMIT_SECONDS:g} s"
        code, self._child = self._child.returncode, None
        if self._stop.is_set() and code != 0:
            self._database.write(lambda session: _requeue(session, export_id))
            return
        result = json.loads(out.strip().splitlines()[-1]) if code == 0 and out.strip() else None
        reason = "" if result else f"the export process ended with code {code}: {err.strip()[-2000:]}"
        self._database.write(lambda session: _finish(session, export_id, result, reason))


def _requeue(session: Session, export_id: str) -> None:
    session.execute(sa.update(Export).where(Export.id == export_id).values(state="queued", lease_until=None))


def _finish(session: Session, export_id: str, result: dict[str, Any] | None, reason: str) -> None:
    export = session.get(Export, export_id)
    if export is None or export.state != "running":
        return
    export.state, export.reason = ("ready" if result else "failed"), reason
    export.ended_at, export.lease_until = time.time(), None
    if result:
        export.folder = result["folder"]
        export.manifest, export.certificate = result["manifest"], result["certificate"]
    append_event(session, export.search_id, f"export_{export.state}", {"export": export_id, "reason": reason})

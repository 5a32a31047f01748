"""The data sets that searches can name: built in, from plug-ins, and registered by users."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Hashable
from dataclasses import asdict

import sqlalchemy as sa
from sqlalchemy.orm import Session

from nas_service.database.session import Database
from nas_service.database.tables import DatasetRow, Search
from nas_service.errors import Conflict, DataAway, InvalidRequest, NotFound
from nas_service.settings import Settings
from workers.datasets import DataError, DatasetInfo, DatasetSource, DatasetSpec, builtin, describe
from workers.datasets.find import source_stamp

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")

_described: dict[Hashable, DatasetInfo] = {}
_locks: dict[str, threading.Lock] = {}
"""By name: a data set is read once, and nobody waits for another's photos."""


def sources(database: Database, settings: Settings) -> dict[str, DatasetSource]:
    """Every data set by name: built in, plug-ins, then the registered ones."""
    found = builtin(settings.roots())
    with database.read() as session:
        for row in session.scalars(sa.select(DatasetRow).order_by(DatasetRow.name)):
            found[row.name] = DatasetSource.model_validate(row.source)
    return found


def info(source: DatasetSource, settings: Settings, pointer: str = "/dataset") -> DatasetInfo:
    """What is in a data set; read again only when its files change. Raises InvalidRequest when it cannot be read."""
    roots = settings.roots()
    try:
        key = (source, source_stamp(source, roots))
        with _locks.setdefault(source.name, threading.Lock()):
            if key not in _described:
                _described[key] = describe(source, roots)
            return _described[key]
    except DataError as error:
        raise InvalidRequest(str(error), pointer=pointer) from error
    except OSError as error:  # a file that went while the folder was read, a folder that may not be listed
        why = f"{source.path}: {error.filename or source.name}: {error.strerror or error}"
        raise InvalidRequest(why, pointer=pointer) from error


def described(spec: DatasetSpec, database: Database, settings: Settings) -> tuple[DatasetSource, DatasetInfo]:
    """Source and content of the data set that a request names. Raises InvalidRequest with what is allowed."""
    known = sources(database, settings)
    if spec.name not in known:
        raise InvalidRequest(
            f"data set {spec.name!r} is not known; allowed: {', '.join(sorted(known))}", pointer="/dataset/name"
        )
    return known[spec.name], info(known[spec.name], settings)


def of_search(search: Search, database: Database, settings: Settings) -> tuple[DatasetSource, DatasetInfo]:
    """Source and content of the data set that a search was made for, even where its name means another one by now.

    Where its files have moved, what the name means now is taken if the content is the same. Raises DataAway when it
    cannot be read, or has other content; that of a plug-in is the plug-in's affair.
    """
    spec = DatasetSpec.model_validate(search.request["dataset"])
    if search.data is None:
        try:
            return described(spec, database, settings)
        except InvalidRequest as error:
            raise DataAway(f"data set {spec.name!r} cannot be read: {error.detail}") from error
    held = DatasetSource.model_validate(search.data["source"])
    now = sources(database, settings).get(spec.name, held)
    problems = []
    for source in dict.fromkeys((held, now)):
        try:
            found = info(source, settings)
        except InvalidRequest as error:
            problems.append(f"data set {spec.name!r} cannot be read: {error.detail}")
            continue
        if found.content_hash == search.data["content_hash"] or held.format == "plugin":
            return source, found
        problems.append(
            f"data set {spec.name!r} has changed since the search was made (its files, or the libraries that read "
            "them): what was trained on other data cannot be compared"
        )
    raise DataAway(problems[0])


def register(source: DatasetSource, database: Database, settings: Settings) -> DatasetSource:
    """Remember a user's data set after reading it once; the source as it is stored, with its full path.

    A relative path counts from the data folders, in their order.

    Raises InvalidRequest when it is not readable, Conflict when the name is taken.
    """
    if not NAME.fullmatch(source.name):
        raise InvalidRequest(
            f"name {source.name!r}; allowed: small letters, digits, '.', '_' and '-', up to 100", pointer="/name"
        )
    if source.format in ("digits", "plugin"):
        raise InvalidRequest(
            f"format {source.format!r} cannot be registered; "
            "allowed: idx, cifar10, cifar100, folder, npz, masks, scenes",
            pointer="/format",
        )
    if source.name in builtin(settings.roots()):
        raise Conflict(f"{source.name!r} is the name of a built-in data set", pointer="/name")
    if source.format != "scenes":
        places = [root / source.path for root in settings.roots()]
        place = next((p for p in places if os.path.exists(p)), places[0])  # False for a name that is too long
        source = source.model_copy(update={"path": str(place)})
    found = info(source, settings, pointer="/path")

    def work(session: Session) -> None:
        row = session.get(DatasetRow, source.name)
        if row and DatasetSource.model_validate(row.source) != source:
            raise Conflict(f"data set {source.name!r} is registered with another source", pointer="/name")
        if not row:
            session.add(
                DatasetRow(
                    name=source.name, source=source.model_dump(mode="json"), info=asdict(found), created_at=time.time()
                )
            )

    database.write(work)
    return source


def forget(name: str, database: Database) -> None:
    """Drop a registered data set; its files stay. Raises NotFound, or Conflict while a search uses it."""

    def work(session: Session) -> None:
        row = session.get(DatasetRow, name)
        if row is None:
            raise NotFound(f"no registered data set {name!r}")
        states = ("queued", "running", "pausing", "paused", "cancelling")
        for search in session.scalars(sa.select(Search).where(Search.state.in_(states))):
            if search.request["dataset"]["name"] == name:
                raise Conflict(f"search {search.id} ({search.state}) uses data set {name!r}")
        session.delete(row)

    database.write(work)

"""Bring a database to the present schema, under a lock, so that servers that start together do not migrate twice."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from nas_service.database.session import Database
from nas_service.errors import Misconfigured

FOLDER = Path(__file__).parent / "migrations"
LOCK = 0x6E6173  # "nas": PostgreSQL's advisory lock for migrations


def configuration() -> Config:
    """Alembic's configuration; the connection is handed over in its attributes."""
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    return config


def migrate(database: Database) -> tuple[str | None, str]:
    """Upgrade to the newest schema in one transaction; (revision before, revision after).

    Raises Misconfigured for a database that a newer version has made.
    """
    config = configuration()
    head = ScriptDirectory.from_config(config).get_current_head()
    if head is None:
        raise Misconfigured("the installation has no migrations")
    with database.engine.begin() as connection:
        if not database.sqlite:
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        before = MigrationContext.configure(connection).get_current_revision()
        if before != head:
            known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
            if before is not None and before not in known:
                raise Misconfigured(
                    f"the database has schema {before!r}, which this version does not know; newest known: {head!r}"
                )
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    return before, head

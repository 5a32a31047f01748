"""Alembic's entry: runs migrations on the connection that ``schema.migrate`` hands over."""

from alembic import context

from nas_service.database.tables import Table

connection = context.config.attributes["connection"]
context.configure(
    connection=connection, target_metadata=Table.metadata, render_as_batch=connection.dialect.name == "sqlite"
)
context.run_migrations()

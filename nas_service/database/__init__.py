"""Storage: tables, transactions, migrations. SQLite as the embedded default, PostgreSQL for more than one host."""

from nas_service.database.session import Database

__all__ = ["Database"]
